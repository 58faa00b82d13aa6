"""The file transfer plugin, as HTCondor calls it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import source_policy
import url_plugin
from hypothesis import given
from hypothesis import strategies as st
from source_fetch import MAY_PASS, REFUSED, UNAVAILABLE, FetchError, Input
from source_policy import DeniedError
from url_plugin import parse_ads, quote_ad, read_inputs

from swarm_runner.condor.connection import classad
from swarm_runner.model.sources import InputUrl, plugin_data

classad2 = classad()
ROOT = "/scratch/dir_7/scratch"
SOURCES = [{"scheme": "https", "host": "h.org", "port": 443, "path": "/"}]


def infile(*ads: dict[str, str]) -> str:
    """Return ads as HTCondor writes them: one after another, without a line break."""
    return "".join(str(classad2.ClassAd(ad)).replace("\n", " ") for ad in ads)


def parsed(text: str) -> list[Any]:
    return list(classad2.parseAds(text, classad2.ParserType.New))


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["Url", "LocalFileName"]),
            st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126)),
        )
    )
)
def test_ads_are_read_as_htcondor_writes_them(ads: list[dict[str, str]]) -> None:
    assert parse_ads(infile(*ads)) == [{k.lower(): v for k, v in ad.items()} for ad in ads]


@pytest.mark.parametrize(
    "text",
    [
        "[ a = 1 ]",
        '[ a = strcat("x") ]',
        '[ a = [ b = "x" ] ]',
        'a = "x"',
        '[ a = "x',
        "[ [ ] ]",
        "] [",
    ],
)
def test_other_ads_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="HTCondor's description"):
        parse_ads(text)


@given(
    st.dictionaries(
        st.sampled_from(["A", "B"]), st.text() | st.booleans() | st.integers(0, 2**40), min_size=1
    )
)
def test_results_are_ads(values: dict[str, object]) -> None:
    (ad,) = parsed(quote_ad(values))
    for name, value in values.items():
        if not isinstance(value, str):
            assert ad[name] == value
        elif value.isprintable():
            assert ad[name] == value.encode(errors="replace").decode()


def test_inputs_have_the_names_and_checksums_of_the_invocation() -> None:
    inputs = [
        InputUrl.model_validate({"source": "https://h.org/a,b", "name": "in/x y"}),
        InputUrl.model_validate({"source": "https://h.org/c?d=e", "checksum": "md5:" + "0" * 32}),
        InputUrl.model_validate({"source": "https://h.org/c?d=e", "name": "copy"}),
    ]
    ads = parse_ads(
        infile(
            {"PluginData": plugin_data(inputs)},
            {"Url": inputs[0].source, "LocalFileName": f"{ROOT}/a%2Cb"},
            {"Url": inputs[1].source, "LocalFileName": f"{ROOT}/c"},
            {"Url": inputs[1].source, "LocalFileName": f"{ROOT}/c"},
        )
    )
    assert read_inputs(ads, ROOT) == [
        Input("https://h.org/a%2Cb", "in/x y"),
        Input("https://h.org/c?d=e", "c", "md5:" + "0" * 32),
        Input("https://h.org/c?d=e", "copy"),
    ]


def test_a_url_of_another_client_gets_htcondors_name() -> None:
    ads = [{"url": "https://h.org/a", "localfilename": f"{ROOT}/d/a"}]
    assert read_inputs(ads, ROOT) == [Input("https://h.org/a", "d/a")]


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "a//x", "./x", "", "a/"])
def test_no_name_leads_out_of_the_jobs_directory(name: str) -> None:
    data = plugin_data([InputUrl.model_construct(source="u", name=name, checksum=None)])
    with pytest.raises(DeniedError):
        read_inputs([{"plugindata": data}, {"url": "u", "localfilename": f"{ROOT}/u"}], ROOT)
    with pytest.raises(DeniedError):
        read_inputs([{"url": "u", "localfilename": "/elsewhere/u"}], ROOT)


class FakeDownloader:
    """Fetches nothing."""

    def __init__(self, *_arguments: object) -> None:
        pass

    def fetch(self, item: Input, _root: str) -> int:
        if item.url.endswith("missing"):
            raise FetchError(f'{item.url} was "answered" with 404', UNAVAILABLE)
        return 5


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    settings = tmp_path / "sources.json"
    settings.write_text(json.dumps(SOURCES))
    monkeypatch.setattr(source_policy, "SETTINGS_FILE", settings)
    monkeypatch.setattr(url_plugin, "Downloader", FakeDownloader)
    for name in ("getuid", "geteuid"):
        monkeypatch.setattr(os, name, lambda: 1000)

    def call_plugin(text: str, *further: str) -> tuple[int, list[Any]]:
        source, target = tmp_path / ".url_plugin.py.in", tmp_path / ".url_plugin.py.out"
        source.write_text(text)
        target.write_text(" " * 4096)
        code = url_plugin.main(["-infile", str(source), "-outfile", str(target), *further])
        return code, parsed(target.read_text())

    return call_plugin


def urls(root: Path, *paths: str) -> str:
    return infile(*({"Url": f"https://h.org/{p}", "LocalFileName": f"{root}/{p}"} for p in paths))


def test_each_input_has_a_result(call: Any, tmp_path: Path) -> None:
    code, ads = call(urls(tmp_path, "a", "b"))
    assert code == 0
    assert [(ad["TransferUrl"], ad["TransferSuccess"], ad["TransferTotalBytes"]) for ad in ads] == [
        ("https://h.org/a", True, 5),
        ("https://h.org/b", True, 5),
    ]
    assert ads[0]["TransferFileName"] == f"{tmp_path}/a"


def test_a_failure_is_the_last_result(call: Any, tmp_path: Path) -> None:
    code, ads = call(urls(tmp_path, "a", "missing", "b"))
    assert code == UNAVAILABLE
    assert [ad["TransferSuccess"] for ad in ads] == [True, False]
    message = 'swarm-runner could not fetch https://h.org/missing was "answered" with 404'
    assert ads[1]["TransferError"] == message
    (data,) = ads[1]["TransferErrorData"]
    assert (data["ErrorCode"], data["Retryable"]) == (UNAVAILABLE, -1)


def test_nothing_is_sent_to_a_url(call: Any, tmp_path: Path) -> None:
    code, (ad,) = call(urls(tmp_path, "a"), "-upload")
    assert code == 1
    assert "sends no output to a URL" in ad["TransferError"]


@pytest.mark.parametrize("text", ["nonsense", '[ Url = "https://h.org/a" ]', "[ PluginData = 1 ]"])
def test_a_description_of_another_form_is_a_refusal(call: Any, text: str) -> None:
    code, (ad,) = call(text)
    assert code == REFUSED
    assert not ad["TransferSuccess"]


def test_root_fetches_nothing(call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(RuntimeError, match="as root"):
        call(urls(tmp_path, "a"))


def test_what_htcondor_asks_at_its_start(call: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert call
    assert url_plugin.main(["-classad"]) == 0
    (ad,) = classad2.parseAds(capsys.readouterr().out, classad2.ParserType.Old)
    assert (ad["MultipleFileSupport"], ad["ProtocolVersion"]) == (True, 4)
    assert (ad["PluginType"], ad["SupportedMethods"]) == ("FileTransfer", "https")


def test_root_reads_the_secrets_and_is_never_root_again(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[tuple[str, Any]] = []
    monkeypatch.setattr(os, "getuid", lambda: 0)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "getegid", lambda: 1001)
    for name in ("seteuid", "setgroups", "setresgid", "setresuid"):
        monkeypatch.setattr(os, name, lambda *ids, name=name: steps.append((name, ids)))

    def read() -> dict[str, str]:
        steps.append(("read", ()))
        return {"/secret": "x"}

    assert url_plugin.become_job_user(read) == {"/secret": "x"}
    assert steps == [
        ("seteuid", (0,)),
        ("read", ()),
        ("setgroups", ([1001],)),
        ("setresgid", (1001, 1001, 1001)),
        ("setresuid", (1000, 1000, 1000)),
    ]


def test_the_job_user_reads_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tmp_path / "secret"
    secret.write_text("Bearer abc\n")
    sources = source_policy.parse_sources(
        json.dumps(
            [
                SOURCES[0] | {"authorization": str(secret)},
                SOURCES[0],
                SOURCES[0] | {"authorization": "/none"},
            ]
        )
    )
    assert url_plugin.read_authorizations(sources) == {str(secret): "Bearer abc"}
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    assert url_plugin.become_job_user(dict) == {}


def test_the_disk_of_the_job(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "local").write_bytes(b"x" * 1000)
    (tmp_path / "link").symlink_to("/etc/passwd")
    slot_ad = tmp_path / ".slot_ad.ad"
    slot_ad.write_text("Cpus = 1\nDisk = 50\nTotalDisk = 9999999\n")
    environment = {"_CONDOR_MACHINE_AD": str(slot_ad)}
    left = 50 * 1024 - 1000 - slot_ad.stat().st_size
    assert url_plugin.job_disk_bytes(environment, str(tmp_path)) == left
    assert url_plugin.job_disk_bytes({}, str(tmp_path)) > left


def test_htcondor_reads_that_a_failure_may_pass() -> None:
    (ad,) = parsed(url_plugin.failure(Input("https://h/a?s", "a"), ROOT, FetchError("x", MAY_PASS)))
    assert ad["TransferErrorData"][0]["Retryable"] == 0
    assert ad["TransferUrl"] == "https://h/a"
