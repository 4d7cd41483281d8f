# SPDX-License-Identifier: GPL-2.0-only
"""The tests of selftests/tools/run, inside of the guest: tools.py TREE OUT"""
import glob, json, os, pty, re, select, signal, subprocess, sys, time, traceback
import xml.etree.ElementTree as xml

TOP, OUT = sys.argv[1:3]
MAFC, SUBJECT, LOAD = TOP + "/build/mafc", OUT + "/subject", OUT + "/load"
KNOBS = "/sys/class/misc/mafc/"
CGROUPS = "/sys/fs/cgroup/"
tests = []


def test(function):
    tests.append(function)
    return function


def knob(name, value=None):
    if value is not None:
        with open(KNOBS + name, "w") as f:
            f.write(str(value))
    with open(KNOBS + name) as f:
        return int(f.read())


def mafc(*args, status=0, user=None, timeout=60):
    """Runs mafc; its status must be as said; returns stdout, stderr."""
    as_user = ["setpriv", "--reuid=nobody", "--clear-groups"] if user else []
    p = subprocess.run(as_user + [MAFC, *map(str, args)], capture_output=True, text=True, timeout=timeout,
                       stdin=subprocess.DEVNULL)
    assert p.returncode == status, f"mafc {args}: status {p.returncode}, not {status}: {p.stdout}{p.stderr}"
    return p.stdout, p.stderr


def json_of(*args, **kw):
    return json.loads(mafc(args[0], "--json", *args[1:], **kw)[0])


def fails(*args, says, status=1, **kw):
    """It must end with the status, with nothing on stdout and one line on stderr that says why."""
    out, err = mafc(*args, status=status, **kw)
    assert out == "", f"mafc {args} printed {out!r}"
    assert err.count("\n") == 1 and err.startswith("mafc") and re.search(says, err), \
        f"mafc {args}: {err!r} does not say {says!r}"
    return err


def near(what, a, b, percent):
    assert b and abs(a - b) <= b * percent / 100, f"{what}: {a} is not within {percent} % of {b}"
    return f"{what} {a} against {b}, {100 * (a - b) / b:+.2f} %"


class Subject:
    """A subject on M-AFC's heap, in a memory cgroup of its own, compactor off unless said."""

    def __init__(self, mib, keep, *options, before=()):
        self.group = f"{CGROUPS}subject{mib}-{time.monotonic_ns()}"
        os.mkdir(self.group)
        self.process = subprocess.Popen(
            [*before, MAFC, "run", *options, "--", SUBJECT, str(mib), str(keep), "0"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            preexec_fn=lambda: open(self.group + "/cgroup.procs", "w").write("0"))
        self.pid = self.process.pid
        words = self.process.stdout.readline().split()
        assert words and words[0] == "live", f"the subject said {words}"
        self.live, self.pages = int(words[1]), int(words[3])

    def charged(self):
        """What the kernel charges to the group in whole pages of its own: the heap's frames."""
        stat = dict(line.split() for line in open(self.group + "/memory.stat"))
        return int(stat["kernel"]) - sum(int(stat[k]) for k in (
            "kernel_stack", "pagetables", "sec_pagetables", "percpu", "sock", "vmalloc", "slab") if k in stat)

    def __enter__(self):
        return self

    def __exit__(self, *what):
        self.process.stdin.close()
        self.status = self.process.wait()
        os.rmdir(self.group)
        if what[0] is None:
            assert self.status == 0, f"the subject ended with {self.status}"


redis = None
SOCKET = "/tmp/redis.socket"    # not on the host's file system, which has no sockets


def cli(*args):
    return subprocess.run(["redis-cli", "-s", SOCKET, *args], capture_output=True, text=True).stdout


@test
def run_redis():
    """mafc run starts redis-server with its heap on the device"""
    global redis
    redis = subprocess.Popen([MAFC, "run", "--", "redis-server", "--port", "0", "--unixsocket", SOCKET,
                              "--save", "", "--maxmemory", "16mb", "--maxmemory-policy", "allkeys-lru"],
                             stdout=subprocess.DEVNULL)
    for _ in range(300):
        if cli("PING").strip() == "PONG":
            break
        time.sleep(.1)
    with open(f"/proc/{redis.pid}/maps") as f:
        assert f.read().count("/dev/mafc") >= 3
    subprocess.run([LOAD, "-s", SOCKET, "-l", "redis", "-n", "10", "insert1", "insert2"], check=True,
                   capture_output=True)
    # The subjects look at each page of their regions.
    os.environ["MAFC_RESERVE_GIB"] = "1"
    return f"pid {redis.pid}"


@test
def stat_redis():
    """mafc stat, of one and of all"""
    one = json_of("stat", redis.pid)
    assert one["pid"] == redis.pid and one["comm"] == "redis-server"
    assert 16 << 20 < one["live_bytes"] <= one["held_bytes"] < 200 << 20, one
    assert abs(one["frag_percent"] - 100 * (1 - one["live_bytes"] / one["held_bytes"])) < .02
    assert len(one["stall"]) == 24 and len(one["free_blocks"]) == 10
    every = json_of("stat")
    assert [h["pid"] for h in every["heaps"]] == [redis.pid]
    assert every["counters"]["heaps"] == 1 and every["counters"]["faults"] >= one["faults"] > 0
    text = mafc("stat")[0]
    assert re.search(rf"^ *{redis.pid} redis-server +[\d.]+ MiB", text, re.M), text
    text = mafc("stat", redis.pid)[0]
    assert re.search(r"^held +[\d.]+ MiB$", text, re.M) and re.search(r"^on node 1 ", text, re.M), text
    return f"held {one['held_bytes']} live {one['live_bytes']} bytes"


@test
def classes_redis():
    """mafc classes: their sums are what the kernel counts"""
    classes = json_of("classes", redis.pid)
    one = json_of("stat", redis.pid)
    assert len(classes) > 5 and len({c["block_size"] for c in classes}) == len(classes)
    for c in classes:
        assert 0 <= c["live_bytes"] <= c["held_bytes"] and 0 <= c["external_percent"] <= 100
        assert 0 <= c["internal_percent"] < 100 and c["allocs"] >= c["frees"]
    assert any(c["internal_percent"] > 1 for c in classes), "no class loses anything to rounding"
    assert len(mafc("classes", redis.pid)[0].splitlines()) == len(classes) + 1
    return near("live bytes", sum(c["live_bytes"] for c in classes), one["live_bytes"], 1)


@test
def heatmap_redis():
    """mafc heatmap: in the terminal, as SVG, as JSON; and it makes no page of the process"""
    before = json_of("stat", redis.pid)
    text = mafc("heatmap", redis.pid)[0]
    assert re.match(r"([0-9Lm.]{1,80}\n)+\d+ pages to a sign", text), text
    svg = "/tmp/heatmap.svg"
    mafc("heatmap", "--svg", svg, redis.pid)
    cells = xml.parse(svg).findall("{http://www.w3.org/2000/svg}rect")
    assert len(cells) > 20, "an empty picture"
    m = json_of("heatmap", redis.pid)
    assert sum(m["by_tenths_live"]) + m["large"] + m["meshed"] + m["without_memory"] == m["pages"]
    assert sum(m["by_tenths_live"]) > 1000
    with open(f"{OUT}/heatmap.txt", "w") as f:
        f.write(text)
    subprocess.run(["cp", svg, OUT])
    after = json_of("stat", redis.pid)
    assert after["held_bytes"] <= before["held_bytes"], "looking at the heap made it bigger"
    fails("heatmap", "--svg", "/nowhere/x.svg", redis.pid, says="No such file")
    return near("pages with memory, in bytes", 4096 * (sum(m["by_tenths_live"]) + m["large"]),
                after["held_bytes"] - after["cached_bytes"], 5)


@test
def top_redis():
    """mafc top: as JSON, as text, and on a terminal with keys"""
    docs = [json.loads(line) for line in mafc("top", "--json", "--count", 3, "--interval", "300ms")[0].splitlines()]
    assert len(docs) == 3 and all(d["heaps"][0]["pid"] == redis.pid for d in docs)
    assert all(0 <= d["compactor_cpu_percent"] <= 100 for d in docs)
    assert mafc("top", "--count", 2, "--interval", "100ms")[0].count("redis-server") == 2
    pid, tty = pty.fork()
    if not pid:
        os.execv(MAFC, ["mafc", "top", "--interval", "30s"])

    def read(until):
        seen = b""
        while until not in seen:
            assert select.select([tty], [], [], 20)[0], f"no {until} after {seen}"
            seen += os.read(tty, 65536)
        return seen
    read(b"q(uit")
    os.write(tty, b"p")
    screen = read(b"q(uit")
    assert b"redis-server" in screen and b"\033[H" in screen, screen
    os.write(tty, b"q")
    read(b"\033[?1049l")
    assert os.waitpid(pid, 0)[1] == 0


def function_of(site, named):
    """The innermost function with one of the names, and where it is"""
    return next((f for f in site["stack"] if f["function"] in named), None)


@test
def sites_known():
    """mafc sites: two functions by their bytes, the one that keeps sparse pages first"""
    names = ("keeps_one_per_page", "keeps_all", "borrows")
    p = subprocess.Popen([MAFC, "run", "--no-compact", "--sites=2", "--", OUT + "/places"],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        words = p.stdout.readline().split()
        pages, dense = int(words[1]), int(words[3])
        doc = json_of("sites", "--top", "0", p.pid)
        found = [(f, s) for s in doc["sites"] for f in [function_of(s, names)] if f]
        assert doc["interval_bytes"] == 2048 and doc["lost"] == 0, doc
        # malloc is called at one line in each; borrows() has nothing.
        assert [f["function"] for f, s in found] == ["keeps_one_per_page", "keeps_all"], found
        assert found[0][1] == doc["sites"][0]
        for f, s in found:
            line = open(f["file"]).read().splitlines()[f["line"] - 1]
            assert os.path.basename(f["file"]) == "places.c" and "malloc(" in line, (f, line)
            assert s["stack"][0] == f and s["stack"][1]["function"] == "main", s
        pins, keeps = (s for f, s in found)
        assert keeps["pinned_bytes"] < pins["pinned_bytes"] / 100, keeps
        assert [s["pinned_bytes"] for s in doc["sites"]] == \
            sorted((s["pinned_bytes"] for s in doc["sites"]), reverse=True)
        said = [near("pinned", pins["pinned_bytes"], pages * 4096, 20),
                near("of it live", pins["live_bytes"], pages * 256, 20),
                near("blocks", pins["blocks"], pages, 20),
                near("dense", keeps["live_bytes"], dense, 5),
                near("sparse pages", doc["sparse_pages_bytes"], pages * 4096, 2)]
        assert len(json_of("sites", "--top", 1, p.pid)["sites"]) == 1
        text = mafc("sites", p.pid)[0]
        rows = re.findall(r"^ *[\d.]+ \w+ +[\d.]+ \w+ +\d+ +[\d.]+ \w+ \n +(\w+) (\S+)$", text, re.M)
        assert rows[0][0] == "keeps_one_per_page" and re.search(r"places\.c:\d+$", rows[0][1]), text
        with open(OUT + "/sites.txt", "w") as f:
            f.write(text)
        fails("sites", p.pid, says="not permitted", user="nobody")
    finally:
        p.stdin.close()
        assert p.wait() == 0
    return "; ".join(said)


@test
def sites_meshed():
    """mafc sites: what was meshed is not sparse any longer"""
    knob("budget_percent", 100)
    p = subprocess.Popen([MAFC, "run", "--sites=2", "--", OUT + "/places"], stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE, text=True)
    pages = int(p.stdout.readline().split()[1])
    mafc("compact", p.pid)
    doc = json_of("sites", p.pid)
    p.stdin.close()
    assert p.wait() == 0
    site = next(s for s in doc["sites"] if function_of(s, ["keeps_one_per_page"]))
    assert site["pinned_bytes"] < pages * 4096 / 4, site
    return near("live", site["live_bytes"], pages * 256, 20)


@test
def sites_redis():
    """mafc sites on a redis-server; and one line where there are no samples"""
    fails("sites", redis.pid, says="no samples.*mafc run --sites")
    fails("run", "--sites=x", "--", "true", says="not a number", status=2)
    where = SOCKET + "2"
    server = subprocess.Popen([MAFC, "run", "--sites", "--", "redis-server", "--port", "0", "--unixsocket", where,
                               "--save", "", "--maxmemory", "16mb", "--maxmemory-policy", "allkeys-lru"],
                              stdout=subprocess.DEVNULL)
    try:
        for _ in range(300):
            if os.path.exists(where):
                break
            time.sleep(.1)
        subprocess.run([LOAD, "-s", where, "-l", "redis", "-n", "10", "insert1", "insert2"], check=True,
                       capture_output=True)
        doc = json_of("sites", "--top", 0, server.pid)
        live = json_of("stat", server.pid)["live_bytes"]
        named = [s for s in doc["sites"] if s["stack"] and any(f["function"] for f in s["stack"][:3])]
        assert doc["interval_bytes"] == 65536 and len(doc["sites"]) > 5 and doc["samples"] > 100, doc
        assert sum(s["live_bytes"] for s in named) > .9 * sum(s["live_bytes"] for s in doc["sites"]), doc
        top = max(doc["sites"], key=lambda s: s["live_bytes"])
        assert re.search("alloc|sds|Object|dict", str([f["function"] for f in top["stack"]])), top
        assert not any("libmafc" in (f["module"] or "") for s in doc["sites"] for f in s["stack"][:1])
        return near("live", doc["live_bytes"], live, 15) + f", {doc['samples']} samples, " + \
            f"{doc['pinned_bytes']} of {doc['sparse_pages_bytes']} bytes of sparse pages"
    finally:
        server.terminate()
        server.wait(30)


@test
def top_sorts():
    """mafc top and stat sort by the key"""
    with Subject(4, 1) as small, Subject(8, 8) as sparse:
        first = {key: json_of("top", "--count", 1, "--sort", key)["heaps"][0]["pid"] for key in "hlfp"}
        assert first == {"h": redis.pid, "l": redis.pid, "f": sparse.pid,
                         "p": min(redis.pid, small.pid, sparse.pid)}, first
        fails("top", "--sort", "x", says="sort", status=2)


@test
def tune_device():
    """mafc tune shows and sets, and refuses what is out of range"""
    by_name = {t["name"]: t for t in json_of("tune")}
    assert set(by_name) == {os.path.basename(f) for f in glob.glob(KNOBS + "*")
                            if os.path.isfile(f) and os.access(f, os.W_OK) and os.stat(f).st_mode & 0o222} - {"uevent"}
    for t in by_name.values():
        assert t["value"] == knob(t["name"]) and t["min"] <= t["value"] <= t["max"]
        for v in t["min"], t["max"]:
            mafc("tune", f"{t['name']}={v}")
            assert knob(t["name"]) == v
        for v in t["min"] - 1, t["max"] + 1, "", "x", "1x":
            fails("tune", f"{t['name']}={v}", says=f"from {t['min']} to {t['max']}", status=2)
        assert knob(t["name"]) == t["max"], "a refused value was set"
        mafc("tune", f"{t['name']}={t['value']}")
    fails("tune", "frobnication=1", says="no tunable", status=2)
    fails("tune", "enable=0", says="only root", user="nobody")
    assert re.search(r"^interval_ms +1000 ms +1 +3600000 Time", mafc("tune")[0], re.M)


@test
def compact_heap():
    """mafc compact: a fragmented heap shrinks; the tunables are as before"""
    knob("enable", 0)
    with Subject(24, 8) as s:
        before, knobs = json_of("stat", s.pid), {k: knob(k) for k in ("enable", "budget_percent", "threshold_percent")}
        assert before["frag_percent"] > 30, before
        fails("compact", says="only root", user="nobody")
        did = json_of("compact", s.pid)
        assert did["held_was_bytes"] > did["held_bytes"] and did["frag_percent"] < 10 and did["meshed"] > 1000, did
        assert json_of("stat", s.pid)["held_bytes"] < before["held_bytes"] * .7
        assert {k: knob(k) for k in knobs} == knobs
        assert re.search(r"^held +[\d.]+ MiB$", mafc("compact")[0], re.M)
        return f"held {before['held_bytes']} before, {did['held_bytes']} after"


@test
def stat_is_true():
    """mafc stat against the program, its page tables, and its memory cgroup: within 1 %"""
    said = []
    for keep in 1, 4:
        with Subject(32, keep, "--no-compact") as s:
            time.sleep(.2)
            st = json_of("stat", s.pid)
            said += [near("live", st["live_bytes"], s.live, 1),
                     near("held, not free", st["held_bytes"] - st["cached_bytes"], s.pages * 4096, 1),
                     near("held", st["held_bytes"], s.charged(), 1)]
    knob("budget_percent", 100)
    with Subject(32, 4) as s:
        for _ in range(100):
            st = json_of("stat", s.pid)
            if st["frag_percent"] < 12:
                break
            time.sleep(.1)
        assert st["meshed"], "the compactor did not work"
        said += [near("compacted: live", st["live_bytes"], s.live, 1), near("held", st["held_bytes"], s.charged(), 1)]
    return "; ".join(said)


@test
def numa_nodes():
    """mafc stat tells the node, by libnuma"""
    with Subject(8, 1, before=["numactl", "--membind", "1"]) as s:
        st = json_of("stat", s.pid)
        near("on node 1", st["on_node_1_bytes"], s.pages * 4096, 5)
        assert st["on_node_0_bytes"] < 1 << 20, st


@test
def run_limits():
    """mafc run --memory-max: the limit holds, its cgroup goes away; status and signals come through"""
    mafc("run", "--memory-max", "16M", "--", SUBJECT, 64, 1, 1, status=137)
    mafc("run", "--memory-max", "64M", "--", SUBJECT, 4, 1, 1)
    assert not glob.glob(CGROUPS + "mafc-*")
    mafc("run", "--", "sh", "-c", "exit 42", status=42)
    with Subject(4, 1, "--reserve-gib", "2", "--cache-kib", "64") as s, open(f"/proc/{s.pid}/environ") as f:
        assert {"MAFC_RESERVE_GIB=2", "MAFC_CACHE_KIB=64", "MAFC_REQUIRE=1"} <= set(f.read().split("\0"))
    assert json_of("run", "--", "sh", "-c", "echo noise; exit 42", status=42)["status"] == 42
    fails("run", "--", "/no/such/program", says="No such file", status=127)
    fails("run", "--", "/etc/passwd", says="denied", status=126)
    p = subprocess.Popen([MAFC, "run", "--json", "sleep", "100"], stdout=subprocess.PIPE)
    time.sleep(1)
    p.terminate()
    assert p.wait(10) == 128 + signal.SIGTERM


@test
def check_slo():
    """mafc check: status 3 with compaction off, that of the program with it on"""
    knob("budget_percent", 100)
    out, err = mafc("check", "--slo", 10, "--no-compact", "--", SUBJECT, 24, 8, 5, status=3)
    assert re.match(r"mafc check: over the SLO of 10 % for 2 s: [34]\d\.\d\d %, with ", err) and \
        err.count("\n") == 1, err
    _, good = mafc("check", "--slo", "10%", "--after", "8s", "--", SUBJECT, 24, 8, 14)
    assert re.match(r"mafc check: within the SLO of 10 % .*; at most \d\.\d\d %, with [\d.]+ MiB held", good), good
    doc = json_of("check", "--slo", 10, "--no-compact", "--", SUBJECT, 24, 8, 5, status=3)
    assert doc["over_slo"] and doc["status"] == 0 and doc["frag_percent"] > 30
    # A grandchild counts, a heap smaller than --min does not.
    mafc("check", "--slo", 10, "--no-compact", "--", "sh", "-c", f"{SUBJECT} 24 8 5; true", status=3)
    mafc("check", "--slo", 10, "--min", "100M", "--no-compact", "--", SUBJECT, 24, 8, 5)
    mafc("check", "--slo", 99, "--", "sh", "-c", "sleep 1; exit 42", status=42)
    out, err = mafc("check", "--after", "60m", "--", SUBJECT, 1, 1, 1, status=1)
    assert "nothing was measured" in err
    return good.strip()


@test
def doctor_well():
    """mafc doctor: all is well, and what is not is named"""
    mafc("doctor", status=0)
    levels = lambda *a, **k: {f["what"]: f["level"] for f in json_of("doctor", *a, **k)}
    assert "problem" not in levels(redis.pid).values()
    knob("enable", 0)
    assert levels(status=1)["compaction is switched off"] == "problem"
    knob("enable", 1)
    with Subject(8, 1) as s:
        open(s.group + "/memory.max", "w").write(str(256 << 20))
        found = levels(s.pid)
        assert any(w.startswith("memory.max") and l == "ok" for w, l in found.items()), found
        now = int(open(s.group + "/memory.current").read())
        open(s.group + "/memory.high", "w").write(str(now + (now >> 6) & ~4095))
        found = levels(s.pid)
        assert any(w.startswith("memory.high") and l == "note" for w, l in found.items()), found
    out = subprocess.run(f"ulimit -v 400000; {MAFC} doctor", shell=True, capture_output=True, text=True)
    assert out.returncode == 1 and "RLIMIT_AS" in out.stdout, out


@test
def errors():
    """wrong, foreign and vanished processes: one line and status 1"""
    plain = subprocess.Popen(["sleep", "100"])
    gone = subprocess.Popen(["true"])
    gone.wait()
    for command in "stat", "heatmap", "classes", "sites", "compact":
        fails(command, gone.pid, says="no such process")
        fails(command, plain.pid, says="no heap")
        for pid in "0", "-5", "x", "1x", "99999999999":
            out, err = mafc(command, pid, status=2)
            assert "not a process id" in err or "no such option" in err, err
    mode = os.stat("/dev/mafc").st_mode & 0o777
    os.chmod("/dev/mafc", 0o600)
    for command in ["stat"], ["top"], ["stat", redis.pid], ["compact"], ["run", "true"], ["check", "true"]:
        fails(*command, says="permission denied", user="nobody")
    os.chmod("/dev/mafc", 0o666)
    for command in "stat", "heatmap", "classes", "sites", "compact":
        fails(command, redis.pid, says="not permitted", user="nobody")
    assert json_of("stat", user="nobody")["heaps"] == [], "another user's heap is listed"
    os.chmod("/dev/mafc", mode)
    plain.kill()
    plain.wait()
    for bad in ["frobnicate"], ["heatmap"], ["run"], ["stat", "--slo", "3"], ["check", "--slo", "x", "true"], ["top", "1"]:
        fails(*bad, says="", status=2)


@test
def vanishing():
    """processes that end while they are looked at: an answer or one line, never more"""
    ended = 0
    for i in range(6):
        for command in "heatmap", "classes", "sites", "stat":
            p = subprocess.Popen([MAFC, "run", "--sites", "--", SUBJECT, "2", "1", "1"], stdout=subprocess.PIPE)
            p.stdout.readline()
            look = subprocess.Popen([MAFC, command, str(p.pid)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            time.sleep(i * .01)
            p.kill()
            out, err = look.communicate(timeout=30)
            p.wait()
            assert look.returncode in (0, 1), (look.returncode, err)
            assert look.returncode == 0 or (err.count("\n") == 1 and "process" in err), err
            ended += look.returncode
    return f"{ended} of 24 had vanished"


@test
def without_module():
    """without the module: one line and status 1; the doctor says what to do"""
    redis.terminate()
    assert redis.wait(30) == 0
    for _ in range(50):
        if knob("counters/heaps") == 0:
            break
        time.sleep(.1)
    subprocess.run(["rmmod", "mafc"], check=True)
    for command in ["stat"], ["stat", "1"], ["top"], ["compact"], ["tune"], ["run", "true"], ["check", "true"]:
        fails(*command, says="the module is not loaded")
    assert "no heap" in mafc("heatmap", os.getpid(), status=1)[1]
    assert "insmod" in mafc("doctor", status=1)[0]
    mafc("run", "--fallback", "--", "true")


knob("budget_percent", 10)
os.chmod("/dev/mafc", 0o666)
# The first cgroup and the last make the kernel patch its own code, which emulators get wrong at times.
os.mkdir(CGROUPS + "stays")
defaults = {k: knob(k) for k in ("enable", "budget_percent", "threshold_percent", "interval_ms")}
print(f"KTAP version 1\n1..{len(tests)}", flush=True)
failed = 0
for number, function in enumerate(tests, 1):
    start, said, ok = time.time(), None, True
    try:
        for name, value in defaults.items():
            knob(name, value)
        said = function()
    except Exception:
        ok = False
        print("# " + traceback.format_exc().strip().replace("\n", "\n# "))
    failed += not ok
    title = function.__doc__ + (f" # {said}" if said else "")
    print(f"{'ok' if ok else 'not ok'} {number} {function.__name__}: {title} [{time.time() - start:.1f} s]", flush=True)
sys.exit(failed > 0)
