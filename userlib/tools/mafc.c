// SPDX-License-Identifier: Apache-2.0
/* mafc.c - mafc(1): the command line; and compact, tune, doctor */
#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <numa.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"

struct options opt = { .interval = 2000, .lasting = 2000, .at_least = 4 << 20, .slo = 10, .sort = "h" };
struct json js;
volatile int stopped;
static const char *command = "";

void die(enum status status, const char *fmt, ...)
{
	int err = errno;
	va_list ap;

	fprintf(stderr, "mafc%s%s: ", *command ? " " : "", command);
	va_start(ap, fmt);
	errno = err;
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(status);
}

void die_if(int err, pid_t pid)
{
	if (err < 0 && pid)
		die(FAILED, "process %d: %s", pid, reader_error(err));
	if (err < 0)
		die(FAILED, "%s", reader_error(err));
}

int open_device(void)
{
	int fd = reader_open();

	die_if(fd, 0);
	return fd;
}

uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000ULL + t.tv_nsec / 1000000;
}

static void tune_set(const char *arg)
{
	const struct sysfs_file *t = reader_tunables;
	size_t len = strcspn(arg, "=");
	uint64_t v;
	char *end;
	int err;

	while (t->name && (strlen(t->name) != len || strncmp(t->name, arg, len)))
		t++;
	if (!t->name)
		die(USAGE, "no tunable %.*s; mafc tune lists them", (int)len, arg);
	v = arg[len] ? strtoull(arg + len + 1, &end, 10) : 0;
	if (!arg[len] || !isdigit(arg[len + 1]) || *end || v < t->min || v > t->max)
		die(USAGE, "%s: must be %s=N, from %s to %s %s", arg, t->name, text(0, t->min), text(0, t->max),
		    t->unit);
	err = reader_set(t->name, v);
	if (err)
		die(FAILED, "%s: %s", t->name, err == -EACCES ? "only root may set it" : reader_error(err));
}

static void put_tunable(const struct sysfs_file *t, uint64_t v)
{
	begin(NULL, '{');
	put_text("name", t->name, -18);
	put("value", 0, v);
	put_text("unit", t->unit, -4);
	put("min", 0, t->min);
	put("max", 0, t->max);
	put_text("what", t->what, 0);
	end('{');
}

int cmd_tune(void)
{
	const struct sysfs_file *t;
	uint64_t v;
	char **arg;

	for (arg = opt.args; *arg; arg++)
		tune_set(*arg);
	begin(NULL, '[');
	for (t = reader_tunables; t->name; t++) {
		die_if(reader_get(t->name, &v), 0);
		mode = HEADER;
		if (!opt.json && t == reader_tunables)
			put_tunable(t, v);
		mode = TABLE;
		put_tunable(t, v);
	}
	end('[');
	return OK;
}

/* What compact changes while it works. Each write wakes the compactor. */
static struct { const char *name; uint64_t now, then; } knobs[] = {
	{ "enable", 1, 0 }, { "threshold_percent", 0, 0 }, { "budget_percent", 100, 0 },
};

static void knobs_back(void)
{
	for (size_t i = 0; i < LENGTH(knobs); i++)
		reader_set(knobs[i].name, knobs[i].then);
}

static uint64_t counter(const char *name)
{
	uint64_t v = 0;

	reader_get(name, &v);
	return v;
}

/* The kernel compacts another process's heap by its own thread only: so let it off the leash for a while. */
static void compact_all(void)
{
	uint64_t work, before = 0, calm = 0, end = now_ms() + 60000;
	size_t i;

	if (access(MAFC_SYSFS "/enable", W_OK))
		die(FAILED, errno == EACCES ? "only root may do this" : MAFC_SYSFS "/enable: %m");
	for (i = 0; i < LENGTH(knobs); i++)
		knobs[i].then = counter(knobs[i].name);
	atexit(knobs_back);
	for (; calm < 3 && !stopped && now_ms() < end; before = work) {
		for (i = 0; i < LENGTH(knobs); i++)
			reader_set(knobs[i].name, knobs[i].now);
		usleep(300000);
		work = counter("counters/pages_meshed") + counter("counters/pages_moved") +
		       counter("counters/pages_dropped");
		calm = work - before < 16 ? calm + 1 : 0;
	}
}

/* The heap of opt.pid, or all of them. */
static struct mafc_stat total(int fd)
{
	struct mafc_stat st;

	if (opt.pid)
		die_if(reader_stat(fd, opt.pid, &st), opt.pid);
	else
		sum_heaps(fd, NULL, &st);
	return st;
}

int cmd_compact(void)
{
	int fd = open_device();
	struct mafc_stat old = total(fd), new;

	compact_all();
	new = total(fd);
	begin(NULL, '{');
	put("held_was", 'B', old.held);
	put("held", 'B', new.held);
	put("live", 'B', new.live);
	put("frag_was", '%', old.fragmentation);
	put("frag", '%', new.fragmentation);
	put("meshed", 0, new.meshed - old.meshed);
	end('{');
	return stopped ? FAILED : OK;
}

static int problems;

/* A line: @level 0 is good, 1 to know, 2 a problem; @advice says what to do about it. */
static void __attribute__((format(printf, 3, 4))) finding(int level, const char *advice, const char *fmt, ...)
{
	static const char *const levels[] = { "ok", "note", "problem" };
	char what[4200];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	problems += level == 2;
	begin(NULL, '{');
	mode = TABLE;
	put_text("level", levels[level], -7);
	put_text("what", what, -50);
	put_text("advice", level ? advice : NULL, 0);
	end('{');
}

/* Does a program get its heap from the device?  This one is tried. */
static void doctor_start(void)
{
	const char *lib = library_path();
	int status = -1;
	pid_t pid;

	if (!lib) {
		finding(2, "install it, or set MAFC_LIBRARY", "no libmafc.so beside this program or in ../lib");
		return;
	}
	pid = fork();
	if (!pid) {
		setenv("LD_PRELOAD", lib, 1);
		setenv("MAFC_REQUIRE", "1", 1);
		dup2(open("/dev/null", O_RDWR), 1);
		dup2(1, 2);
		execl("/proc/self/exe", "mafc", "--help", NULL);
		_exit(126);
	}
	waitpid(pid, &status, 0);
	finding(status ? 2 : 0, "try MAFC_REQUIRE=1 LD_PRELOAD=LIBRARY ls, which says why; library and module may "
		"be of different versions", status ? "a program started with %s does not get a heap on the device" :
		"a program started with %s gets its heap from the device", lib);
}

static void doctor_module(int fd)
{
	bool loaded = !access(MAFC_SYSFS, F_OK);

	if (fd >= 0)
		finding(0, "", "the module is loaded, of ABI version %d as this tool", MAFC_ABI_VERSION);
	else if (fd == -ENOENT && loaded)
		finding(2, "pass it in, for example by --device " MAFC_DEVICE, "the module is loaded, but there is no "
			MAFC_DEVICE " here");
	else if (fd == -ENOENT)
		finding(2, "insmod or modprobe mafc, as root; it is built for one kernel", "the module is not loaded");
	else
		finding(2, fd == -EPROTO ? "load the module of the same release" : "chmod or chgrp it (make load does), or "
			"allow it in the container's device controller", MAFC_DEVICE ": %s", reader_error(fd));
}

static void doctor_tunables(void)
{
	uint64_t enable = counter("enable"), budget = counter("budget_percent"), cpu;

	cpu = counter("counters/compactor_cpu_ns");
	usleep(1000000);
	cpu = counter("counters/compactor_cpu_ns") - cpu;
	if (!enable || !budget)
		finding(2, "mafc tune enable=1 budget_percent=1", "compaction is switched off");
	else
		finding(budget < 100 && cpu > budget * 9000000, "where heaps stay fragmented, mafc tune budget_percent=N",
			"the compactor took %s of a CPU, of %s that it may take", text('%', cpu / 100000),
			text('%', budget * 100));
}

/* The limits of the memory cgroup of the process, and of those above it. */
static void doctor_cgroup(pid_t pid)
{
	static const char *const names[] = { "memory.max", "memory.high" };
	char path[4300], group[4200], *slash;
	uint64_t now, limit;
	bool any = false;
	int i;

	for (cgroup_of(pid, group); (slash = strrchr(group, '/')); *slash = '\0') {
		for (i = 0; i < 2; i++) {
			snprintf(path, sizeof(path), "%s/%s", group, names[i]);
			if (reader_number(path, &limit))
				continue;
			snprintf(path, sizeof(path), "%s/memory.current", group);
			any = !reader_number(path, &now);
			finding(now > limit / 10 * 9, "near: raise it; heap pages cannot be swapped out", "%s of %s is %s, "
				"%s in use", names[i], group, text('B', limit), text('B', now));
		}
	}
	if (!any)
		finding(0, "", "no memory cgroup limits process %d", pid);
}

static void doctor_process(pid_t pid, int fd)
{
	struct mafc_stat st = { .pinned = 0 };
	struct rlimit as;
	int err = fd < 0 ? fd : reader_stat(fd, pid, &st);

	if (opt.pid && err)
		finding(2, reader_error(err), "process %d cannot be looked at", pid);
	if (st.pinned)
		finding(1, "direct I/O or io_uring buffers in heap memory", "%s times a page was pinned", text(0, st.pinned));
	if (st.cow_copies)
		finding(1, "pages that a child shares are not compacted", "it has forked");
	doctor_cgroup(pid);
	if (!prlimit(pid, RLIMIT_AS, NULL, &as) && as.rlim_cur != RLIM_INFINITY)
		finding(as.rlim_cur < 512 << 20 ? 2 : 1, "below 512 MiB the device is not used (ulimit -v)",
			"RLIMIT_AS is %s", text('B', as.rlim_cur));
}

int cmd_doctor(void)
{
	int fd = reader_open(), node;
	long long spare;

	begin(NULL, '[');
	doctor_module(fd);
	if (fd >= 0) {
		doctor_start();
		doctor_tunables();
	}
	doctor_process(opt.pid ? opt.pid : getpid(), fd);
	for (node = 0; numa_available() >= 0 && node <= numa_max_node(); node++)
		if (numa_node_size64(node, &spare) > 0)
			finding(0, "", "node %d has %s free", node, text('B', spare));
	end('[');
	return problems ? FAILED : OK;
}

static const struct command {
	const char *name;
	char letter;
	int (*run)(void);
	const char *args, *what;
} commands[] = {
	{ "run", 'r', cmd_run, "[--] CMD...", "start a program with its heap on the device" },
	{ "stat", 's', cmd_stat, "[PID]", "the figures of one heap, or of all and the device" },
	{ "top", 't', cmd_top, "", "the heaps, live" },
	{ "heatmap", 'h', cmd_heatmap, "PID", "the pages of a heap by how full they are" },
	{ "classes", 'k', cmd_classes, "PID", "size classes: live, held, fragmentation" },
	{ "compact", 'c', cmd_compact, "[PID]", "compact all heaps now; show what one, or all, gained" },
	{ "tune", 'u', cmd_tune, "[NAME=N...]", "show and set the tunables of the device" },
	{ "check", 'x', cmd_check, "[--] CMD...", "run a program; exit status 3 if it was over an SLO" },
	{ "doctor", 'd', cmd_doctor, "[PID]", "does it work here, which limits bite, what to do" },
};

/* Kinds of values: b(ytes), t(ime), n(umber), p(er cent), s(tring), e(nvironment); f(lags) have none. */
static const struct {
	const char *name, *of;
	char kind;
	void *to;
} options[] = {
	{ "json", "rsthkcuxd", 'f', &opt.json },
	{ "sort", "st", 's', &opt.sort },
	{ "interval", "t", 't', &opt.interval },
	{ "count", "t", 'n', &opt.count },
	{ "svg", "h", 's', &opt.svg },
	{ "slo", "x", 'p', &opt.slo },
	{ "after", "x", 't', &opt.after },
	{ "for", "x", 't', &opt.lasting },
	{ "min", "x", 'b', &opt.at_least },
	{ "memory-max", "rx", 'b', &opt.memory_max },
	{ "no-compact", "rx", 'f', &opt.no_compact },
	{ "fallback", "r", 'f', &opt.fallback },
	{ "cache-kib", "rx", 'e', "MAFC_CACHE_KIB" },
	{ "reserve-gib", "rx", 'e', "MAFC_RESERVE_GIB" },
};

static void usage(const struct command *only)
{
	const struct command *c;
	size_t i;

	for (c = commands; c < commands + LENGTH(commands); c++) {
		if (only && c != only)
			continue;
		printf("mafc %s", c->name);
		for (i = 0; i < LENGTH(options) && (only || !i); i++)
			if (strchr(options[i].of, c->letter))
				printf(" [--%s%s]", options[i].name, options[i].kind == 'f' ? "" : " X");
		printf(" %s\n        %s\n", c->args, c->what);
	}
}

/* Times are in seconds if nothing else is said. */
static double number(const char *s, char kind)
{
	static const struct { const char *kinds, *unit; double worth; } units[] = {
		{ "npb", "", 1 }, { "p", "%", 1 }, { "b", "K", 1 << 10 }, { "b", "M", 1 << 20 }, { "b", "G", 1 << 30 },
		{ "t", "", 1000 }, { "t", "ms", 1 }, { "t", "s", 1000 }, { "t", "m", 60000 },
	};
	char *end;
	double v = strtod(s, &end);
	size_t i;

	for (i = 0; i < LENGTH(units); i++)
		if (end != s && v >= 0 && v < 1e12 && strchr(units[i].kinds, kind) && !strcmp(end, units[i].unit))
			return v * units[i].worth;
	die(USAGE, "%s: not a number that is possible here", s);
}

static void option(size_t i, const char *value)
{
	char kind = options[i].kind;

	if (kind == 'f')
		*(bool *)options[i].to = true;
	else if (kind == 's')
		*(const char **)options[i].to = value;
	else if (kind == 'e')
		setenv(options[i].to, value, 1);
	else if (kind == 'p')
		*(double *)options[i].to = number(value, kind);
	else
		*(uint64_t *)options[i].to = number(value, kind);
}

/* Takes the options from the front of @args; returns what is left. */
static char **parse(const struct command *c, char **args)
{
	const char *name, *value;
	size_t i, len;

	for (; *args && !strncmp(*args, "--", 2); args++) {
		name = *args + 2;
		if (!*name)
			return args + 1;
		if (!strcmp(name, "help")) {
			usage(c);
			exit(OK);
		}
		len = strcspn(name, "=");
		for (i = 0; i < LENGTH(options); i++)
			if (strlen(options[i].name) == len && !strncmp(options[i].name, name, len) &&
			    strchr(options[i].of, c->letter))
				break;
		if (i == LENGTH(options))
			die(USAGE, "%s: no such option; see mafc %s --help", *args, c->name);
		value = name[len] ? name + len + 1 : options[i].kind == 'f' ? NULL : *++args;
		if (!value != (options[i].kind == 'f'))
			die(USAGE, "--%s %s a value", options[i].name, value ? "has not" : "wants");
		option(i, value);
	}
	return args;
}

static pid_t pid_of(const char *s)
{
	char *end;
	long v = strtol(s, &end, 10);

	if (*end || end == s || v <= 0 || v > INT32_MAX)
		die(USAGE, "%s: not a process id", s);
	return v;
}

static void on_signal(int sig)
{
	(void)sig;
	stopped = 1;
}

int main(int argc, char **argv)
{
	const struct command *c = commands;
	struct sigaction stop = { .sa_handler = on_signal };
	int status;

	if (argc < 2 || !strcmp(argv[1], "--help")) {
		usage(NULL);
		return argc < 2 ? USAGE : OK;
	}
	while (strcmp(c->name, argv[1]))
		if (++c == commands + LENGTH(commands))
			die(USAGE, "no subcommand %s; mafc --help lists them", argv[1]);
	command = c->name;
	opt.args = parse(c, argv + 2);
	if (!*opt.args && *c->args && !strstr(c->args, "[PID") && c->run != cmd_tune)
		die(USAGE, "see mafc %s --help: %s is missing", c->name, c->args);
	if (*opt.args && (!*c->args || (strstr(c->args, "PID") && opt.args[1])))
		die(USAGE, "%s: not expected", opt.args[!!*c->args]);
	if (*opt.args && strstr(c->args, "PID"))
		opt.pid = pid_of(*opt.args);
	js.f = stdout;
	if (c->run == cmd_top || c->run == cmd_compact) {
		sigaction(SIGINT, &stop, NULL);
		sigaction(SIGTERM, &stop, NULL);
	}
	status = c->run();
	if (opt.json && js.more)
		putchar('\n');
	return fflush(stdout) || ferror(stdout) ? FAILED : status;
}
