#!/usr/bin/env python3
"""Runs a study on a HyperQueue of two workers on this machine, stops tasks while they run, and compares every artifact with
a run of one process. Needs `pip install hyperqueue`, whose wheel has server and workers inside.

    experiments/cluster/run-hyperqueue.py TARRL [PROFILE [REFERENCE]]

The tasks are those of `tarrl submit --engine hyperqueue --dry-run`. REFERENCE is the run folder of one process, such as
runs/smoke; without it one is made.
"""
import os, pathlib, random, signal, subprocess, sys, tempfile, threading, time, tomllib

from hyperqueue import Job, LocalCluster
from hyperqueue.client import FailedJobsException
from hyperqueue.cluster import WorkerConfig

tarrl, profile = os.path.abspath(sys.argv[1]), (sys.argv[2:] or ["smoke"])[0]
root = pathlib.Path(__file__).resolve().parents[2]
work = pathlib.Path(tempfile.mkdtemp(prefix="tarrl-hq."))
places = [f"--{name}={root / name}" for name in ("experiments", "datasets", "data")]
options = ["--profile", profile, "--threads", "1", *places]
(work / "runs" / profile / "submit" / "log").mkdir(parents=True)
stops = 0


def stop_some(done):
    """Sends SIGTERM or SIGUSR2 to a running `tarrl job` now and then, sixteen times."""
    global stops
    choose = random.Random(0)
    while stops < 16 and not done.wait(choose.uniform(3, 12)):
        found = subprocess.run(["pgrep", "-f", f"^{tarrl} job .*{work}"], capture_output=True, text=True).stdout.split()
        if found:
            with_ = choose.choice([signal.SIGUSR2, signal.SIGTERM])
            try:
                os.kill(int(choose.choice(found)), with_)
                stops += 1
            except ProcessLookupError:
                pass


began, submitted = time.time(), []
with LocalCluster() as cluster:
    for _ in range(2):
        cluster.start_worker(WorkerConfig(cores=1))
    client, done = cluster.client(), threading.Event()
    thread = threading.Thread(target=stop_some, args=[done])
    thread.start()
    try:
        # What failed is submitted again; what is done is not.
        while len(submitted) < 9:
            text = subprocess.check_output(
                [tarrl, "submit", "--engine", "hyperqueue", "--dry-run", "--out", work / "runs", *options], text=True)
            if not text.startswith("name"):
                break
            job, tasks = Job(max_fails=None), []
            for task in tomllib.loads(text)["task"]:
                tasks.append(job.program(task["command"], stdout=task["stdout"], stderr=task["stderr"],
                                         deps=[tasks[i] for i in task["deps"]]))
            submitted.append(len(tasks))
            try:
                client.wait_for_jobs([client.submit(job)])
            except FailedJobsException as error:
                print(str(error).splitlines()[0])
    finally:
        done.set()
        thread.join()
print(f"tasks submitted: {submitted}; {stops} stopped while they ran; {time.time() - began:.0f} s")
print(subprocess.check_output([tarrl, "status", "--profile", profile, "--out", work / "runs"], text=True).splitlines()[-1])
if len(sys.argv) > 3:
    single = pathlib.Path(sys.argv[3])
else:
    single = work / "single" / profile
    subprocess.run([tarrl, "reproduce", *options, "--out", work / "single"], check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
compare = root / "experiments/cluster/compare.py"
sys.exit(subprocess.run([sys.executable, compare, single, work / "runs" / profile]).returncode)
