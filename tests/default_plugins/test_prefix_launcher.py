"""How a prefix is read, and what it puts in front of a job."""

from __future__ import annotations

import os
import shlex
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskproc.default_plugins.prefix_launcher import PrefixLauncher
from taskproc.errors import PrefixError
from taskproc.testing import LauncherContract, example_job

ARGV = ["python", "-m", "worker"]


class TestPrefixFromText(LauncherContract):
    def make(self):
        return PrefixLauncher("OMP_NUM_THREADS=4 srun -n 1 -o '{stdout}' -J {label}")


class TestPrefixFromWords(LauncherContract):
    def make(self):
        return PrefixLauncher(("srun", "--comment", "{directory} & more"), max_jobs=3)


def words_of(prefix, **job):
    return PrefixLauncher(prefix).command(ARGV, example_job(**job))[: -len(ARGV)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("jbsub -wait -queue x86_1h -cores 16+1", ["jbsub", "-wait", "-queue", "x86_1h", "-cores", "16+1"]),
        ("  nice   -n\t5 ", ["nice", "-n", "5"]),
        ("""bsub -J 'a b' -R "span[hosts=1]" c\\ d""", ["bsub", "-J", "a b", "-R", "span[hosts=1]", "c d"]),
        ("""a'b'"c"d ''""", ["abcd", ""]),
        ("\n srun \\\n  -n 1\n\n  ", ["srun", "-n", "1"]),
        (r"""echo "a\"b" "c\$d" "e\\f" "g\h" '\'""", ["echo", 'a"b', "c$d", "e\\f", "g\\h", "\\"]),
        ("run '$HOME;' \\$x '~' a~b x\\;y", ["run", "$HOME;", "$x", "~", "a~b", "x;y"]),
        ("docker run --mount 'a=b' {x} {} { }", ["docker", "run", "--mount", "a=b", "{x}", "{}", "{", "}"]),
    ],
)
def test_text_is_split_as_a_shell_would(text, words):
    assert words_of(text) == words


PLAIN = st.text("ab9/.-+:,@%_{}", min_size=1)
QUOTED = st.text("ab $;'\"\\&|<>()`~\t", max_size=6)
WORD = st.lists(
    st.one_of(PLAIN, QUOTED.map(shlex.quote), st.sampled_from(['"a b"', r'"\$x"', r"\ ", r"\;"])), min_size=1
)


@given(st.lists(WORD.map("".join), min_size=1, max_size=5))
def test_a_shell_reads_the_same_words(words):
    text = "printf '%s\\0' " + " ".join(words)
    said = subprocess.run(["sh", "-c", text], capture_output=True, check=True).stdout
    assert words_of(text)[2:] == os.fsdecode(said).split("\0")[:-1]


@pytest.mark.parametrize(
    ("text", "mark"),
    [
        ("cd /x && run", "&&"),
        ("a || b", "||"),
        ("run; rm", ";"),
        ("run &", "&"),
        ("run | tee log", "|"),
        ("run > log", ">"),
        ("run 2>&1", ">"),
        ("run < in", "<"),
        ("(run", "("),
        ("run )", ")"),
        ("run `id`", "`"),
        ("run\nrun", "\n"),
        ("run $HOME", "$"),
        ('run "$HOME"', "$"),
        ('run "`id`"', "`"),
        ("~/bin/run", "~"),
        ("run ~/x", "~"),
        ("DIR=~/x run", "~"),
    ],
)
def test_what_only_a_shell_can_do_is_refused_with_the_form_that_works(text, mark):
    with pytest.raises(PrefixError) as error:
        PrefixLauncher(text)
    assert repr(mark) in str(error.value)
    form = str(error.value).split("Ask for one: ")[1].split(". If it is meant")[0]
    assert words_of(form) == ["sh", "-c", text + ' "$@"', "sh"]


def test_the_form_it_shows_really_runs(tmp_path):
    with pytest.raises(PrefixError) as error:
        PrefixLauncher(f"cd {shlex.quote(str(tmp_path))} && env X=1")
    form = str(error.value).split("Ask for one: ")[1].split(". If it is meant")[0]
    argv = PrefixLauncher(form).command(["sh", "-c", 'echo "$X $PWD $1"', "sh", "a b"], example_job())
    said = subprocess.run(argv, capture_output=True, check=True, text=True).stdout
    assert said == f"1 {os.path.realpath(tmp_path)} a b\n" or said == f"1 {tmp_path} a b\n"


def test_a_list_is_taken_word_by_word_as_it_is():
    assert words_of(["run", "$HOME && ~", "'x'", ""]) == ["run", "$HOME && ~", "'x'", ""]


@pytest.mark.parametrize(
    "prefix", ["OMP=4 EMPTY= A='b c' run x=1", ("OMP=4", "EMPTY=", "A=b c", "run", "x=1")]
)
def test_leading_assignments_become_environment(prefix):
    launcher = PrefixLauncher(prefix)
    assert launcher.environment(example_job()) == {"OMP": "4", "EMPTY": "", "A": "b c"}
    assert launcher.command(ARGV, example_job()) == ["run", "x=1", *ARGV]
    assert launcher.needs == ("run",)


@pytest.mark.parametrize("prefix", ["", "   ", "\n", "A=1", "'' x", (), ("",), ("A=1",)])
def test_a_prefix_without_a_command_is_refused(prefix):
    with pytest.raises(PrefixError, match="has no command"):
        PrefixLauncher(prefix)


@pytest.mark.parametrize("text", ["run 'a", 'run "a', "run \\", "it's"])
def test_an_open_quote_is_refused(text):
    with pytest.raises(PrefixError, match=r"open quote|backslash"):
        PrefixLauncher(text)


@pytest.mark.parametrize("prefix", [("run", 5), ("run", "a\0b"), "run a\0b"])
def test_words_that_no_command_can_take_are_refused(prefix):
    with pytest.raises(PrefixError, match="holds"):
        PrefixLauncher(prefix)


def test_templates_are_filled_after_splitting_and_only_once():
    job = {"label": "a {stdout} b", "directory": "/some where/x", "stdout": "/o ut", "stderr": "/e"}
    assert words_of(
        "V={stderr} run {task_name} -l={label} {directory} {stdout} {task_id} {args} {}", **job
    ) == [
        "run",
        "taskfile.Train",
        "-l=a {stdout} b",
        "/some where/x",
        "/o ut",
        str(example_job().task_id),
        "{args}",
        "{}",
    ]
    launcher = PrefixLauncher("V={stderr}:{label} run")
    assert launcher.environment(example_job(**job)) == {"V": "/e:a {stdout} b"}


def test_a_command_named_by_the_job_is_not_looked_for_on_the_path():
    assert PrefixLauncher("run-{label} x").needs == ()


def test_the_usual_exit_codes_are_explained():
    launcher = PrefixLauncher("srun -n 1")
    assert "not found" in launcher.explain(127, "")
    assert "SIGKILL" in launcher.explain(137, "")
    assert launcher.explain(1, "") == ""
