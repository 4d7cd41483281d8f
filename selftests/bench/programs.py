# SPDX-License-Identifier: GPL-2.0-only
"""The real programs of the benchmark: what they are given to do, and how they are run and timed."""
import os
import random
import signal
import subprocess
import tempfile
import time

PYTHON = """
import re
n = {n}
words = ['%x' % (i * 2654435761 % 4294967296) for i in range(n)]
index = {{}}
for i, w in enumerate(words):
    index.setdefault(w[:3], []).append((i, w))
text = ' '.join(words)
found = [m.group(0)[::-1] for m in re.finditer(r'[0-9a-f]+a', text)]
tree = [dict(id=i, name=w, tags=list(w)) for i, w in enumerate(words[:n // 4])]
tree.sort(key=lambda x: x['name'])
print(len(index), len(found), sum(len(t['tags']) for t in tree))
"""

PERL = """
my $n = {n}; my (%h, @a);
for my $i (0 .. $n) {{
    my $w = sprintf '%x', $i * 2654435761 % 4294967296;
    push @{{ $h{{substr $w, 0, 4}} }}, {{ id => $i, name => $w, text => $w x ($i % 9) }};
}}
for my $k (sort keys %h) {{ push @a, join ',', map {{ $_->{{text}} =~ s/a/bb/gr }} @{{ $h{{$k}} }}; }}
delete $h{{$_}} for (keys %h)[0 .. 1000];
print length(join '', @a), "\\n";
"""

SQL = """
CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, value REAL, note TEXT);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {n})
  INSERT INTO t SELECT i, printf('%x', i * 2654435761 % 4294967296), i * 0.5, hex(zeroblob(i % 60)) FROM n;
CREATE INDEX by_name ON t(name);
SELECT count(*), sum(length(note)) FROM t WHERE name LIKE 'a%';
SELECT substr(name, 1, 2) AS k, group_concat(id) FROM t GROUP BY k HAVING count(*) < 3;
UPDATE t SET note = note || name WHERE id % 3 = 0;
DELETE FROM t WHERE id % 4 = 1;
SELECT count(*) FROM t a JOIN t b ON b.name = a.name AND b.id < a.id;
"""

REDIS = {
    "redis-set": ("set", 250000),
    "redis-get": ("get", 250000),
    "redis-lpush": ("lpush", 250000),
    "redis-lrange": ("lrange_100", 40000),
}


def c_source(functions):
    """A C file with as much to optimise as a large one that people wrote."""
    draw = random.Random(1)
    out = ["struct s { int a, b; long c[8]; struct s *next; };"]
    for f in range(functions):
        out.append(f"long f{f}(struct s *p, int n, long *v) {{ long r = n; int i;")
        for block in range(6):
            a, b, c = draw.randrange(8), draw.randrange(1, 99), draw.randrange(8)
            out.append(f"for (i = 0; i < n; i++) {{ if (p->a > {b}) r += p->c[{a}] * {b}; else r ^= v[i] >> {c};")
            out.append(f"switch (r & 7) {{ case 0: p->b += {b}; break; case {1 + c % 6}: v[i] = r - {a}; break;")
            out.append(f"default: if (p->next) p = p->next; r += p->c[i & 7]; }} }}")
            if f and block == 3:
                out.append(f"r += f{draw.randrange(f)}(p, {b}, v);")
        out.append("return r; }")
    return "\n".join(out)


def git_history(commits):
    """A history for git fast-import: files of changing lines."""
    draw = random.Random(2)
    files = [[f"line {i} of {f}: {draw.random()}" for i in range(200)] for f in range(40)]
    out = []
    for n in range(commits):
        out.append(f"commit refs/heads/main\ncommitter A <a@example.org> {n + 1} +0000\ndata 1\nc\n")
        for f in draw.sample(range(40), 4):
            for _ in range(5):
                files[f][draw.randrange(200)] = f"changed in {n}: {draw.random()}"
            text = "\n".join(files[f])
            out.append(f"M 100644 inline dir{f % 5}/file{f}\ndata {len(text)}\n{text}\n")
    return "".join(out)


def prepare(directory, scale):
    """Write what the programs work on into @directory, which is where they run."""
    def write(name, text):
        with open(os.path.join(directory, name), "w", encoding="utf-8") as f:
            f.write(text)

    write("work.py", PYTHON.format(n=250000 // scale))
    write("work.pl", PERL.format(n=150000 // scale))
    write("work.sql", SQL.format(n=220000 // scale))
    write("work.c", c_source(40 // scale))
    git = ["git", "-C", directory]
    subprocess.run([*git, "init", "-q", "-b", "main"], check=True)
    subprocess.run([*git, "fast-import", "--quiet"], input=git_history(800 // scale).encode(), check=True)


COMMANDS = {
    "python3": (["python3", "-S", "-E", "work.py"], {"PYTHONMALLOC": "malloc"}),
    "perl": (["perl", "work.pl"], {}),
    "sqlite3": (["sqlite3", ":memory:", ".read work.sql"], {}),
    "gcc": (["gcc", "-O2", "-w", "-c", "-o", "/dev/null", "work.c"], {}),
    "git": (["sh", "-c", "git -c pack.threads=1 repack -adfq && git log -p main"], {"GIT_PAGER": "cat"}),
}


def run(name, env, directory):
    """CPU time of a program and its children, in ms."""
    args, more = COMMANDS[name]
    child = subprocess.Popen(args, cwd=directory, env={**env, **more}, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = status
    if status:
        raise RuntimeError(f"{name}: status {status}")
    return {name: (usage.ru_utime + usage.ru_stime) * 1e3}


def cpu_seconds(pid):
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/schedstat", encoding="ascii") as f:
            total += int(f.read().split()[0])
    return total / 1e9


def redis(env, plain, scale):
    """CPU time of the server for each request, in us: the client's share of the machine is no matter."""
    figures = {}
    with tempfile.TemporaryDirectory() as directory:
        sock = directory + "/s"
        # pylint: disable-next=consider-using-with
        server = subprocess.Popen(
            ["redis-server", "--port", "0", "--unixsocket", sock, "--save", "", "--dir", directory],
            env={**env, "MALLOC_CONF": "thp:never"}, stdout=subprocess.DEVNULL)
        try:
            until = time.time() + 30
            while not os.path.exists(sock):
                if server.poll() is not None or time.time() > until:
                    raise RuntimeError("redis-server did not start")
                time.sleep(0.02)
            for name, (test, requests) in REDIS.items():
                requests //= scale
                before = cpu_seconds(server.pid)
                subprocess.run(["redis-benchmark", "-s", sock, "-q", "-t", test, "-n", str(requests), "-P", "16",
                                "-r", "100000", "-d", "200"], env=plain, check=True, stdout=subprocess.DEVNULL)
                figures[name] = (cpu_seconds(server.pid) - before) / requests * 1e6
        finally:
            server.send_signal(signal.SIGTERM)
            if server.wait():
                raise RuntimeError("redis-server ended badly")
    return figures
