"""What the benches share: commands measured side by side, and what machine it was."""

import os
import shutil
import statistics
import subprocess
import sys
import time

TIME = shutil.which("time")


def machine():
    cores, memory = os.cpu_count(), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{cores} cores, {memory:.0f} GiB"


def measure(command, runs):
    """The median wall-clock time in seconds and the peak resident memory in MiB of a command."""
    times = []
    for _ in range(runs + 1):
        started = time.perf_counter()
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        times.append(time.perf_counter() - started)
        if done.returncode != 0:
            sys.exit(f"{command} ended with {done.returncode}: {done.stderr.decode()}")
    # A child of this process would begin with this process's peak; a child of GNU time begins with its small one.
    told = subprocess.run([TIME, "-f", "%M", *command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    return statistics.median(times[1:]), int(told.stderr.split()[-1]) / 1024  # the first run warms the caches


def compare(title, ours, others, runs):
    print(f"\n{title}")
    own_time, own_memory = measure(ours, runs)
    print(f"  {'choreoctl':<12}{own_time * 1000:8.1f} ms {own_memory:7.1f} MiB")
    for name, command in others.items():
        spent, memory = measure(command, runs)
        print(
            f"  {name:<12}{spent * 1000:8.1f} ms {memory:7.1f} MiB"
            f"   choreoctl takes {own_time / spent:.2f} of its time, {own_memory / memory:.2f} of its memory,"
            f" {(own_time - spent) * 1000:+.1f} ms"
        )
