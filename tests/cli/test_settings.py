"""The command line first, then the file's defaults, then what is built in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from taskproc.cli.defaults import DefaultArguments, no_defaults
from taskproc.cli.settings import Given, decide
from taskproc.errors import ArgumentError, PrefixError, RateLimitError, UsageError

NOTHING = Given(output="cache")


def settings(defaults: DefaultArguments | None = None, **given: Any) -> Any:
    return decide(replace(NOTHING, **given), defaults or DefaultArguments())


def test_without_any_word_the_published_behaviour_is_in_force() -> None:
    built_in = settings()
    assert built_in.executor == "process"
    assert built_in.num_workers is None
    assert built_in.on_error == "stop"
    assert built_in.loglevel == "warning"
    assert built_in.code == "deep"
    assert not built_in.early_cutoff
    assert built_in.force_entrypoint
    assert built_in.show_progress
    assert not built_in.dry_run
    assert built_in.kwargs == built_in.assigned == built_in.prefixes == built_in.launchers == {}


def test_the_command_line_wins_over_the_defaults_of_the_file() -> None:
    defaults = DefaultArguments(
        num_workers=2,
        exec_type="thread",
        loglevel="info",
        on_error="continue",
        detect_source_change=False,
        force_entrypoint=False,
        show_progress=False,
        output="elsewhere",
    )
    from_file = decide(Given(), defaults)
    assert (from_file.output, from_file.num_workers, from_file.executor) == ("elsewhere", 2, "thread")
    assert (from_file.loglevel, from_file.on_error) == ("info", "continue")
    assert from_file.code == "off"
    assert (from_file.force_entrypoint, from_file.show_progress) == (False, False)
    typed = decide(
        Given(
            output="here",
            num_workers=3,
            executor="process:x=1",
            loglevel="error",
            on_error="stop",
            detect_source_change=True,
            force_entrypoint=True,
            show_progress=True,
        ),
        defaults,
    )
    assert (typed.output, typed.num_workers, typed.executor) == ("here", 3, "process:x=1")
    assert (typed.loglevel, typed.on_error) == ("error", "stop")
    assert typed.code == "deep"
    assert typed.force_entrypoint
    assert typed.show_progress


@pytest.mark.parametrize(
    ("defaults", "given", "code"),
    [
        ({"code": "class"}, {}, "class"),
        ({"code": "class"}, {"code": "off"}, "off"),
        ({"code": "class"}, {"detect_source_change": False}, "off"),
        ({"code": "class", "detect_source_change": False}, {}, "off"),
        ({"detect_source_change": False}, {"code": "deep"}, "deep"),
        ({"detect_source_change": False}, {"detect_source_change": True}, "deep"),
        ({"code": "off"}, {"detect_source_change": True}, "deep"),
        ({"code": "class"}, {"detect_source_change": True}, "class"),
        ({}, {"code": "off", "detect_source_change": False}, "off"),
    ],
)
def test_how_much_code_counts_is_said_by_two_options_of_which_the_typed_one_wins(
    defaults: dict[str, Any], given: dict[str, Any], code: str
) -> None:
    assert settings(DefaultArguments(**defaults), **given).code == code


def test_no_code_and_some_code_at_once_is_refused() -> None:
    with pytest.raises(UsageError, match="-D leaves all code out, and --code class counts it"):
        settings(detect_source_change=False, code="class")
    with pytest.raises(UsageError, match="--code off leaves it out"):
        settings(detect_source_change=True, code="off")


def test_no_cache_at_all_is_refused() -> None:
    with pytest.raises(UsageError, match="-o PATH"):
        decide(Given(), DefaultArguments())


def test_local_is_the_published_name_of_the_serial_executor() -> None:
    assert settings(exec_type="local").executor == "serial"
    assert settings(DefaultArguments(exec_type="local")).executor == "serial"


def test_the_executor_can_be_chosen_once_only() -> None:
    with pytest.raises(UsageError, match="both choose the executor"):
        settings(exec_type="thread", executor="process")


def test_a_prefix_is_split_at_the_first_equals_sign() -> None:
    assert settings(prefixes=["gpu=env A=1 srun"]).prefixes == {"gpu": "env A=1 srun"}


def test_a_prefix_that_begins_with_a_brace_is_json() -> None:
    found = settings(prefixes=['{"gpu": "srun", "cpu": ["nice", "-n", "5"]}', "io=ionice"]).prefixes
    assert found == {"gpu": "srun", "cpu": ["nice", "-n", "5"], "io": "ionice"}


def test_a_typed_prefix_changes_one_label_and_json_replaces_all() -> None:
    defaults = DefaultArguments(prefix={"gpu": "srun", "cpu": "nice"})
    assert settings(defaults, prefixes=["gpu=jbsub"]).prefixes == {"gpu": "jbsub", "cpu": "nice"}
    assert settings(defaults, prefixes=['{"io": "ionice"}']).prefixes == {"io": "ionice"}


def test_a_typed_launcher_drops_the_default_prefix_of_its_label() -> None:
    defaults = DefaultArguments(prefix={"gpu": "srun"}, launchers={"cpu": "docker:image=a"})
    found = settings(defaults, launchers=["gpu=docker:image=b=c"], prefixes=["cpu=nice"])
    assert found.launchers == {"gpu": "docker:image=b=c"}
    assert found.prefixes == {"cpu": "nice"}


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"prefixes": ["gpu"]}, UsageError, ["--prefix", "'gpu'", "LABEL=COMMAND"]),
        ({"prefixes": ["=srun"]}, UsageError, ["--prefix", "'=srun'"]),
        ({"prefixes": ["gpu=a", "gpu=b"]}, UsageError, ["'gpu'", "twice", "'a'", "'b'"]),
        ({"prefixes": ['{"gpu": "a"}', "gpu=b"]}, UsageError, ["'gpu'", "twice"]),
        ({"prefixes": ['{"gpu": "a", "gpu": "b"}']}, UsageError, ["'gpu'", "twice"]),
        ({"prefixes": ['{"gpu": 1}']}, PrefixError, ["'gpu'", "1", "a text or a list"]),
        ({"prefixes": ["{gpu: 1}"]}, UsageError, ["--prefix", "not JSON"]),
        ({"launchers": ["gpu=a", "gpu=b"]}, UsageError, ["--launcher", "'gpu'", "twice"]),
        ({"launchers": ["gpu=a"], "prefixes": ["gpu=b"]}, UsageError, ["'gpu'", "both"]),
        ({"rate_limit": ["gpu=0"]}, RateLimitError, ["'gpu'", "is 0", "1 or more"]),
        ({"rate_limit": ["gpu=-1"]}, RateLimitError, ["'gpu'", "'-1'"]),
        ({"rate_limit": ["gpu=two"]}, RateLimitError, ["'gpu'", "'two'"]),
        ({"rate_limit": ["gpu"]}, UsageError, ["LABEL=N"]),
        ({"rate_limits": '{"gpu": 0}'}, RateLimitError, ["'gpu'", "0"]),
        ({"rate_limits": '{"gpu": true}'}, RateLimitError, ["'gpu'", "True"]),
        ({"rate_limits": '{"gpu": 1.5}'}, RateLimitError, ["'gpu'", "1.5"]),
        ({"rate_limits": "[1]"}, UsageError, ["--rate-limits", "not a JSON object"]),
        ({"rate_limits": '{"gpu": 1}', "rate_limit": ["gpu=1"]}, UsageError, ["'gpu'", "twice"]),
        ({"kwargs": "[1]"}, ArgumentError, ["--kwargs", "not a JSON object"]),
        ({"kwargs": "{'n': 1}"}, ArgumentError, ["--kwargs", "not JSON", "single quotes"]),
        pytest.param({"kwargs": "[" * 100_000}, ArgumentError, ["--kwargs", "not JSON"], id="too deep"),
        ({"kwargs": '{"n": 1, "n": 2}'}, ArgumentError, ["'n'", "twice"]),
        ({"kwargs": '{"n": 1}', "arguments": ["n=2"]}, ArgumentError, ["'n'", "-a", "--kwargs"]),
        ({"arguments": ["n"]}, UsageError, ["-a", "NAME=VALUE"]),
        ({"arguments": ["n=1", "n=2"]}, UsageError, ["'n'", "twice"]),
    ],
)
def test_what_can_not_be_read_is_named(
    given: dict[str, Any], error: type[Exception], words: list[str]
) -> None:
    with pytest.raises(error) as caught:
        settings(**given)
    assert isinstance(caught.value, UsageError)
    for word in words:
        assert word in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_rate_limit_may_be_given_one_by_one_or_as_json() -> None:
    defaults = DefaultArguments(rate_limits={"gpu": 1, "cpu": 4})
    assert settings(defaults, rate_limit=["gpu=2"]).rate_limits == {"gpu": 2, "cpu": 4}
    assert settings(defaults, rate_limits='{"io": 3}', rate_limit=["gpu=2"]).rate_limits == {
        "io": 3,
        "gpu": 2,
    }


def test_arguments_of_both_forms_combine() -> None:
    defaults = DefaultArguments(kwargs={"n": 1, "k": 2})
    found = settings(defaults, arguments=["n=5"])
    assert (found.kwargs, found.assigned) == ({"k": 2}, {"n": "5"})
    found = settings(defaults, kwargs='{"m": 1}', arguments=["n=5=6"])
    assert (found.kwargs, found.assigned) == ({"m": 1}, {"n": "5=6"})


def test_populate_overrides_field_by_field() -> None:
    with no_defaults():
        DefaultArguments(num_workers=2, loglevel="info").populate()
        DefaultArguments(num_workers=3).populate()
        assert DefaultArguments.get_default() == DefaultArguments(num_workers=3, loglevel="info")
        with no_defaults():
            assert DefaultArguments.get_default() == DefaultArguments()
        assert DefaultArguments.get_default().num_workers == 3
    assert DefaultArguments.get_default() == DefaultArguments()


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("loglevel", "loud", ValueError),
        ("loglevel", 10, TypeError),
        ("num_workers", "2", TypeError),
        ("num_workers", True, TypeError),
        ("num_workers", 0, ValueError),
        ("kwargs", [1], TypeError),
        ("kwargs", {1: 2}, TypeError),
        ("prefix", {"gpu": 3}, TypeError),
        ("prefix", "srun", TypeError),
        ("rate_limits", {"gpu": "1"}, TypeError),
        ("rate_limits", {"gpu": None}, TypeError),
        ("rate_limits", {"gpu": 0}, ValueError),
        ("exec_type", 3, TypeError),
        ("output", 3, TypeError),
        ("detect_source_change", "yes", TypeError),
        ("force_entrypoint", 1, TypeError),
        ("show_progress", "no", TypeError),
        ("launchers", ["docker"], TypeError),
        ("reporters", "progress", TypeError),
        ("reporters", 1, TypeError),
        ("on_error", "go", ValueError),
        ("plugins", "name", TypeError),
        ("plugins", [1], TypeError),
    ],
)
def test_a_wrong_default_is_an_error_that_names_it(field: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=field):
        DefaultArguments(**{field: value})


def test_the_published_order_of_the_fields_holds() -> None:
    assert DefaultArguments("info", 2, {"n": 1}, {"gpu": "srun"}, {"gpu": 1}, "thread") == DefaultArguments(
        loglevel="info",
        num_workers=2,
        kwargs={"n": 1},
        prefix={"gpu": "srun"},
        rate_limits={"gpu": 1},
        exec_type="thread",
    )
