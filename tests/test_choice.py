"""Which dates are taken."""

from datetime import UTC, date, datetime

import pytest
import shapely

from s2cd.errors import S2cdError
from s2cd.scenes.aoi import Aoi, open_aoi
from s2cd.sources.choice import (
    around,
    choose_around,
    choose_latest,
    on_one_grid,
    scenes_of,
    season_gap,
    seasons_before,
    spoiled,
)
from s2cd.sources.source import Found, Search

AOI = Aoi("square", shapely.box(72, 23, 73, 24))
WHOLE = shapely.box(71.5, 22.5, 73.5, 24.5)


def found(day: str, cloud: float | None = 0.0, orbit: int = 5, **changed) -> Found:
    sensed = datetime.fromisoformat(f"{day}T05:41:22").replace(tzinfo=UTC)
    usual = {
        "source": "test", "name": f"S2A_{day}", "sensed": sensed, "made": "20231008T183202",
        "tile": "43QBF", "orbit": orbit, "baseline": "05.00", "datatake": f"GS2A_{day}_{orbit}",
        "cloud": cloud, "footprint": WHOLE,
    }  # fmt: skip
    return Found(**{**usual, **changed})


def scenes(*products: Found):
    return scenes_of(products, AOI)


def test_of_one_datatake_in_several_baselines_the_highest_is_taken():
    made = [found("2015-11-20", baseline=b, name=b) for b in ("02.04", "05.00", "02.12")]
    (scene,) = scenes(*made)
    assert [product.name for product in scene.products] == ["05.00"]


def test_of_two_datastrips_of_a_tile_the_one_that_covers_more_is_taken():
    strip = shapely.box(71, 22, 72.3, 25)
    made = [
        found("2015-11-20", name="rest", made="20231009T000000", footprint=strip),
        found("2015-11-20", name="most", made="20231008T000000"),
        found("2015-11-20", name="old", made="20231010T000000", baseline="02.04"),
    ]
    for order in (made, made[::-1]):
        (scene,) = scenes(*order)
        assert [product.name for product in scene.products] == ["most"] and scene.coverage == 1


def test_tiles_of_one_datatake_go_together_as_far_as_they_add():
    west, east = shapely.box(71, 22, 72.6, 25), shapely.box(72.4, 22, 74, 25)
    tiles = [
        found("2020-11-28", 10.0, tile="43QBF", footprint=west),
        found("2020-11-28", 40.0, tile="43QCF", footprint=east),
        found("2020-11-28", 90.0, tile="43QBE", footprint=shapely.box(72, 22, 72.5, 23.3)),
    ]
    (scene,) = scenes(*tiles)
    assert [product.tile for product in scene.products] == ["43QBF", "43QCF"]
    assert scene.coverage == pytest.approx(1) and scene.cloud == pytest.approx(22)


def test_one_tile_is_enough_where_it_covers_all():
    (scene,) = scenes(found("2020-11-28"), found("2020-11-28", tile="42QZL"))
    assert [product.tile for product in scene.products] == ["43QBF"] and scene.coverage == 1


def test_ahmedabad_is_of_its_own_zone_though_another_tile_covers_as_much():
    aoi = open_aoi("ahmedabad.geojson")
    around_it = shapely.box(70, 20, 75, 26)
    both = [found("2020-11-28", tile=tile, footprint=around_it) for tile in ("42QZL", "43QBF")]
    (scene,) = scenes_of(both, aoi)
    assert [product.tile for product in scene.products] == ["43QBF"]


def test_dates_of_two_zones_are_taken_from_tiles_that_both_have():
    wanted = date(2015, 11, 20), date(2020, 11, 28)
    before = scenes(found("2015-11-20", tile="42QZL"))
    after = scenes(found("2020-11-28", tile="42QZL"), found("2020-11-28", tile="43QBF"))
    pair = choose_around(before, after, wanted)
    assert pair.after.products[0].tile == "43QBF"
    assert on_one_grid(pair, AOI).after.products[0].tile == "42QZL"
    half = shapely.box(71, 22, 72.5, 25)
    poor = scenes(
        found("2020-11-28", tile="42QZL", footprint=half), found("2020-11-28", tile="43QBF")
    )
    pair = choose_around(before, poor, wanted)
    assert on_one_grid(pair, AOI) == pair and pair.after.products[0].tile == "43QBF"


def test_products_beside_the_area_are_left_out():
    assert scenes(found("2020-11-28", footprint=shapely.box(0, 0, 1, 1))) == []


def test_what_is_not_covered_counts_as_what_is_cloud():
    half = found("2020-11-01", 0.0, footprint=shapely.box(72, 23, 72.5, 24))
    cloudy = found("2020-11-02", 40.0)
    ranked = scenes(half, cloudy)
    assert [scene.day.day for scene in ranked] == [2, 1] and spoiled(ranked[1]) == 50


def test_the_clearest_of_one_orbit_is_taken_where_it_costs_less_than_ten_points():
    wanted = date(2015, 11, 20), date(2020, 11, 28)
    before = scenes(found("2015-11-20", 1.0, 5))
    cheap = scenes(found("2020-11-28", 10.5, 5), found("2020-11-30", 1.0, 105))
    pair = choose_around(before, cheap, wanted)
    assert pair.after.orbit == 5 and pair.notes == ()
    dear = scenes(found("2020-11-28", 12.0, 5), found("2020-11-30", 1.0, 105))
    pair = choose_around(before, dear, wanted)
    assert pair.after.orbit == 105 and "two relative orbits" in pair.notes[0]


def test_dates_of_one_season_are_preferred_and_others_are_said():
    wanted = date(2015, 6, 1), date(2020, 11, 28)
    pair = choose_around(scenes(found("2015-06-01")), scenes(found("2020-11-28")), wanted)
    assert any("180 days apart in the year" in note for note in pair.notes)
    near = scenes(found("2015-06-01", 0.0), found("2015-06-10", 5.0))
    late = scenes(found("2020-07-09", 0.0))
    assert choose_around(near, late, wanted).before.day == date(2015, 6, 10)


def test_the_one_nearest_to_the_date_wins_among_equals():
    wanted = date(2015, 11, 20), date(2020, 11, 28)
    before = scenes(found("2015-11-10"), found("2015-11-20"), found("2015-11-30"))
    pair = choose_around(before, scenes(found("2020-11-28")), wanted)
    assert pair.before.day == date(2015, 11, 20)


def test_dates_in_the_wrong_order_have_no_pair():
    day = date(2020, 1, 1)
    with pytest.raises(S2cdError, match="comes before"):
        choose_around(scenes(found("2020-01-09")), scenes(found("2020-01-05")), (day, day))


def test_alone_the_clearest_of_late_and_of_its_season_five_years_before():
    archive = scenes(
        found("2021-03-01", 30.0), found("2020-02-20", 2.0), found("2019-03-05", 2.5, 105),
        found("2021-04-20", 0.0), found("2022-02-28", 0.0),
    )  # fmt: skip

    def earlier(spans):
        return [s for s in archive if any(a <= s.day <= b for a, b in spans)]

    latest = scenes(found("2026-03-01", 1.0), found("2026-08-01", 3.0))
    pair = choose_latest(latest, earlier)
    assert (pair.before.day, pair.after.day) == (date(2020, 2, 20), date(2026, 3, 1))


def test_alone_another_season_is_tried_where_the_earlier_one_is_cloudy():
    archive = scenes(found("2020-02-20", 80.0), found("2019-08-01", 4.0))

    def earlier(spans):
        return [s for s in archive if any(a <= s.day <= b for a, b in spans)]

    latest = scenes(found("2026-03-01", 1.0), found("2026-08-01", 3.0))
    assert choose_latest(latest, earlier).after.day == date(2026, 8, 1)
    with pytest.raises(S2cdError, match="at least 5 years before 2026-03-01"):
        choose_latest(latest, lambda spans: [])


def test_cloud_and_coverage_are_said():
    wanted = date(2015, 11, 20), date(2020, 11, 28)
    part = shapely.box(72, 23, 72.9, 24)
    pair = choose_around(
        scenes(found("2015-11-20", 35.0)), scenes(found("2020-11-28", None, footprint=part)), wanted
    )
    said = "; ".join(pair.notes)
    assert "2015-11-20: 35 % of its products is cloud" in said
    assert "2020-11-28: only 90.0 % of the area is covered" in said and "nobody says" in said


def test_seasons_before_a_day_reach_back_to_the_first_products():
    spans = seasons_before(date(2026, 1, 10))
    assert spans[0] == (date(2020, 12, 11), date(2021, 1, 10))
    assert spans[-1] == (date(2015, 12, 11), date(2016, 2, 9))
    assert seasons_before(date(2024, 2, 29))[0][1] == date(2019, 2, 28)
    assert seasons_before(date(2020, 1, 1)) == ()


def test_the_year_is_round():
    assert season_gap(date(2015, 12, 28), date(2021, 1, 3)) == 6
    assert season_gap(date(2015, 3, 1), date(2020, 3, 1)) == 0


def test_windows_hold_both_ends():
    search = Search(AOI, (around(date(2020, 11, 28), 15),))
    assert search.holds(date(2020, 11, 13)) and search.holds(date(2020, 12, 13))
    assert not search.holds(date(2020, 11, 12))
