"""Small real processes that end together: by themselves, by a failure, by a signal, by a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vatt.errors import EXIT_INTERRUPTED, EXIT_PREEMPTED, EXIT_WORKER

REPOSITORY = Path(__file__).resolve().parents[2]
DEADLINE_S = 30
DRIVER = """
import json, sys
from vatt.tools import worker_processes as processes
programs, beside, settings = json.loads(sys.argv[1])
for name, value in settings.items():
    setattr(processes, name, value)
def program(name, text, cores):
    return processes.Program(name, [sys.executable, "-c", text], {"NAME": name}, cores)
workers = [program(str(i), *one) for i, one in enumerate(programs)]
sys.exit(processes.run(workers, program("eval", *beside) if beside else None))
"""
# In one piece, also where Python is told not to buffer.
BEGIN = "import os, signal, sys, time\nos.write(1, f'process {os.getpid()}\\n'.encode())\n"
WAIT = "\nwhile True: signal.pause()\n"
SAVES = "signal.signal(signal.SIGUSR1, lambda *_: sys.exit(42))\nprint('ready', flush=True)" + WAIT
CONTINUES = "The same command goes on from the newest checkpoint"
DEAF = "for n in (signal.SIGUSR1, signal.SIGTERM): signal.signal(n, signal.SIG_IGN)\n"


class Job:
    """Processes that a driver runs; each is a text of Python."""

    def __init__(self, folder, *texts, beside=None, cores=(), **settings):
        programs = [(BEGIN + text, list(cores)) for text in texts]
        beside = (BEGIN + beside, []) if beside else None
        self._said = [folder / "out", folder / "err"]
        with open(self._said[0], "w") as out, open(self._said[1], "w") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-c", DRIVER, json.dumps([programs, beside, settings])],
                env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
                stdout=out,
                stderr=err,
            )

    @property
    def out(self):
        return self._said[0].read_text()

    @property
    def err(self):
        return self._said[1].read_text()

    def wait_for(self, condition):
        end = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < end, self.out + self.err
            time.sleep(0.01)

    def code(self):
        """The exit code; nothing that was started is left."""
        try:
            code = self.process.wait(DEADLINE_S)
        finally:
            self.process.kill()
            self.process.wait()
        self.wait_for(lambda: not any(map(alive, self.pids)))
        return code

    @property
    def pids(self):
        words = [line.split() for line in self.out.splitlines()]
        return [int(line[2]) for line in words if line[1:2] == ["process"]]

    def lines(self):
        return [line for line in self.out.splitlines() if " process " not in line]


def begun(folder):
    """What a process does so that `gone` knows it."""
    return f"open({str(folder / 'begun')!r}, 'w').write(f'{{os.getpid()}} ')\n"


def gone(folder):
    """What a process does to wait until another has ended and the launcher has seen it."""
    return f"""
import pathlib
file = pathlib.Path({str(folder / "begun")!r})
while not (file.exists() and file.read_text().endswith(" ")): time.sleep(0.01)
try:
    while True:
        os.kill(int(file.read_text()), 0)
        time.sleep(0.01)
except ProcessLookupError:
    pass
"""


def alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"  # ended; nobody has asked how


def test_all_that_end_well(tmp_path):
    text = "print('same'); print('own', os.environ['NAME'], file=sys.stderr)"
    job = Job(tmp_path, text, text)
    assert job.code() == 0 and len(job.pids) == 2
    assert sorted(job.lines()) == ["[0] own 0", "[1] own 1", "[all] same"]
    assert job.err == ""


def test_each_has_a_session_and_its_cores(tmp_path):
    core = min(os.sched_getaffinity(0))
    text = "print(os.getsid(0) == os.getpid(), os.sched_getaffinity(0))"
    job = Job(tmp_path, text, text, cores=[core])
    assert job.code() == 0
    assert job.lines() == [f"[all] True {{{core}}}"]


@pytest.mark.parametrize("failing", [0, 1])
def test_one_that_fails_ends_the_others_and_says_why_at_the_end(tmp_path, failing):
    texts = ["print('at work', flush=True)" + WAIT] * 3
    texts[failing] = "print('error: disk full', file=sys.stderr); sys.exit(3)"
    job = Job(tmp_path, *texts)
    assert job.code() == 3
    assert job.err.splitlines() == [
        f"[{failing}] error: disk full",
        f"error: worker {failing} of 3 ended with exit code 3; the others were ended",
    ]
    assert "error" not in job.out


def test_an_exception_is_shown_whole(tmp_path):
    job = Job(tmp_path, "def f(): raise ValueError('x')\nf()", WAIT)
    assert job.code() == 1
    first, *_, error, last = job.err.splitlines()
    assert first == "[0] Traceback (most recent call last):" and error == "[0] ValueError: x"
    assert last.endswith("exit code 1; the other was ended. " + CONTINUES)


def test_one_that_is_killed_ends_the_others(tmp_path):
    job = Job(tmp_path, WAIT, "os.kill(os.getpid(), signal.SIGKILL)")
    assert job.code() == 128 + signal.SIGKILL
    assert job.err.strip() == (
        "error: worker 1 of 2 was killed by SIGKILL (the system does that where memory runs out); "
        f"the other was ended. {CONTINUES}"
    )


def test_one_that_its_watchdog_ends_has_its_stacks_shown(tmp_path):
    hangs = "import faulthandler\nfaulthandler.dump_traceback_later(0.01, exit=True)" + WAIT
    job = Job(tmp_path, WAIT, hangs)
    assert job.code() == 1
    first, *stacks, last = job.err.splitlines()
    assert first.startswith("[1] Timeout (0:00:00") and "most recent call first" in stacks[0]
    assert last.startswith("error: worker 1 of 2 ended with exit code 1; the other was ended")


def test_what_a_process_has_started_ends_with_it(tmp_path):
    child = f"[sys.executable, '-c', {BEGIN + WAIT!r}]"
    out = str(tmp_path / "out")
    job = Job(
        tmp_path,
        f"import subprocess\nsubprocess.Popen({child})\n"
        f"while open({out!r}).read().count('process') < 2: time.sleep(0.01)",
    )
    assert job.code() == 0 and len(job.pids) == 2


def test_one_that_will_not_end_is_killed(tmp_path):
    deaf = DEAF + f"open({str(tmp_path / 'deaf')!r}, 'w')" + WAIT
    fails = f"while not os.path.exists({str(tmp_path / 'deaf')!r}): time.sleep(0.01)\nsys.exit(4)"
    job = Job(tmp_path, deaf, fails, KILL_S=0.1)
    assert job.code() == 4 and len(job.pids) == 2
    assert job.err.endswith("ended with exit code 4; worker 0 would not end and was killed\n")


def test_why_is_told_not_what_followed_from_it(tmp_path):
    lost = f"{begun(tmp_path)}print('error: another worker ended'); sys.exit({EXIT_WORKER})"
    cause = f"{gone(tmp_path)}print('error: full'); sys.exit(3)"
    job = Job(tmp_path, lost, cause)
    assert job.code() == 3
    assert job.err.splitlines() == [
        "[1] error: full",
        "error: worker 1 of 2 ended with exit code 3",
    ]
    assert job.lines() == ["[0] error: another worker ended"]


def test_what_all_refuse_is_said_once(tmp_path):
    job = Job(tmp_path, *["print('error: --mode'); sys.exit(2)"] * 2, PATIENCE_S={2: 5.0})
    assert job.code() == 2
    assert (job.out + job.err).count("error: --mode") == 1


def test_a_stop_that_one_heard_of_ends_all_with_its_code(tmp_path):
    first, second = begun(tmp_path), gone(tmp_path)
    job = Job(tmp_path, f"{first}sys.exit(42)", f"{second}sys.exit(42)")
    assert job.code() == EXIT_PREEMPTED and job.err == ""


@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT", "SIGUSR1", "SIGHUP"])
def test_a_request_to_stop_is_passed_on(tmp_path, number):
    job = Job(tmp_path, SAVES, SAVES, beside=SAVES)
    job.wait_for(lambda: {"[all] ready", "[eval] ready"} <= set(job.lines()))
    job.process.send_signal(getattr(signal, number))
    assert job.code() == EXIT_PREEMPTED
    (line,) = job.err.splitlines()
    assert line.startswith(f"{number}: the workers are asked to save")


def test_a_request_while_they_start_ends_with_nothing_saved(tmp_path):
    job = Job(tmp_path, WAIT, WAIT)
    job.wait_for(lambda: len(job.pids) == 2)
    job.process.send_signal(signal.SIGTERM)
    assert job.code() == EXIT_INTERRUPTED
    assert job.err.endswith("stopped without saving; the same command continues\n")


def test_a_second_request_ends_all_at_once(tmp_path):
    job = Job(tmp_path, *[DEAF + "print('deaf', flush=True)" + WAIT] * 2)
    job.wait_for(lambda: "[all] deaf" in job.out)
    job.process.send_signal(signal.SIGINT)
    job.wait_for(lambda: "SIGINT" in job.err)
    assert job.process.poll() is None
    job.process.send_signal(signal.SIGTERM)
    assert job.code() == EXIT_INTERRUPTED


def test_nobody_is_left_when_the_launcher_is_killed(tmp_path):
    job = Job(tmp_path, DEAF + WAIT, DEAF + WAIT, beside=DEAF + WAIT)
    job.wait_for(lambda: len(job.pids) == 3)
    assert all(map(alive, job.pids))
    job.process.kill()
    assert job.code() == -signal.SIGKILL


def test_evaluation_that_fails_does_not_end_the_training_but_is_told(tmp_path):
    told = f"while 'goes on' not in open({str(tmp_path / 'err')!r}).read(): time.sleep(0.01)"
    job = Job(tmp_path, told, told, beside="print('error: no such set'); sys.exit(3)")
    assert job.code() == 3
    assert job.err.splitlines() == [
        "[eval] error: no such set",
        "error: the process eval ended with exit code 3; the training goes on without it",
    ]


def test_evaluation_goes_on_to_its_end_when_the_training_is_done(tmp_path):
    job = Job(tmp_path, begun(tmp_path), beside=f"{gone(tmp_path)}print('evaluated')")
    assert job.code() == 0 and "[eval] evaluated" in job.lines()


def test_evaluation_ends_with_a_training_that_fails(tmp_path):
    job = Job(tmp_path, "sys.exit(4)", "sys.exit(4)", beside=WAIT)
    assert job.code() == 4


def test_one_that_ends_just_before_it_is_told_to_is_seen(tmp_path):
    ends = f"import pathlib\npathlib.Path({str(tmp_path / 'ends')!r}).touch()"
    text = f"""
import os, pathlib, sys
from vatt.tools import worker_processes as processes
process = processes._Process(processes.Program("0", [sys.executable, "-c", {ends!r}]))
os.waitid(os.P_PID, process._popen.pid, os.WEXITED | os.WNOWAIT)
process.send(15)
print(process.look(), process.code, process.look())
process.end()
"""
    command = [sys.executable, "-c", text]
    made = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert made.stdout == "True 0 False\n", made.stderr
    assert (tmp_path / "ends").exists()


def test_a_program_that_cannot_be_started_leaves_nothing(tmp_path):
    text = (
        "import sys\nfrom vatt.tools.worker_processes import Program, run\n"
        f"run([Program('0', [sys.executable, '-c', {BEGIN + WAIT!r}]), Program('1', ['/no/such'])])"
    )
    made = subprocess.run(
        [sys.executable, "-c", text], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert "FileNotFoundError" in made.stderr


def test_without_a_reader_the_work_goes_on(tmp_path):
    file = tmp_path / "done"
    work = f"print('a' * 99999, flush=True); open({str(file)!r}, 'w')"
    text = (
        "import sys\nfrom vatt.tools.worker_processes import Program, run\n"
        f"sys.exit(run([Program('0', [sys.executable, '-c', {work!r}])]))"
    )
    process = subprocess.Popen([sys.executable, "-c", text], cwd=REPOSITORY, stdout=subprocess.PIPE)
    process.stdout.close()
    assert process.wait(DEADLINE_S) == 0 and file.exists()
