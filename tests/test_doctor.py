"""What works here: told in lines and as JSON, and no secret among it."""

import json

import pytest

from s2cd.cli import doctor
from s2cd.errors import S2cdError
from s2cd.networks import openvino, selection


def test_doctor_tells_what_is_here_in_lines_and_as_json(run):
    found = json.loads(run("doctor", "--json").stdout)
    assert found["versions"]["torch"] and found["free_memory_gib"] > 0
    assert found["gdal_drivers"] == {"JP2OpenJPEG": True, "GTiff": True, "COG": True}
    assert found["backend"]["auto"].split(" in ")[0] in ("torch", "openvino")
    assert found["backend"]["why"]
    done = run("doctor", CDSE_USERNAME="somebody", CDSE_PASSWORD="secret-word")
    assert done.returncode == 0, done.stderr
    lines = [line.split(":")[0] for line in done.stdout.splitlines()]
    assert lines == [name.replace("_", " ") for name in found]
    assert "cdse yes" in done.stdout
    assert "secret-word" not in done.stdout + done.stderr and "somebody" not in done.stdout


def test_a_driver_that_is_missing_is_told_last(monkeypatch, capsys):
    monkeypatch.setitem(doctor._DRIVERS, "NoSuch", "some files")
    with pytest.raises(S2cdError, match="lacks NoSuch, which some files need"):
        doctor.doctor()
    assert "NoSuch no" in capsys.readouterr().out


def test_why_auto_is_torch_is_told(monkeypatch, capsys):
    monkeypatch.setattr(selection, "has_openvino", lambda: False)
    monkeypatch.setattr(openvino, "has_openvino", lambda: False)
    monkeypatch.setattr(selection, "has_native_bf16", lambda device: False)
    doctor.doctor(json=True)
    backend = json.loads(capsys.readouterr().out)["backend"]
    assert backend["auto"] == "torch in fp32" and "pip install" in backend["why"]
