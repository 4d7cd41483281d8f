// SPDX-License-Identifier: Apache-2.0
/* mafc.c - mafc(1): the command line; and compact, tune, doctor */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <numa.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"

struct options opt = { .interval = 2000, .lasting = 2000, .at_least = 4 << 20, .slo = 10, .sort = 'h' };
struct json js;
volatile sig_atomic_t stopped;
void (*at_die)(void);
static const char *command = "";

void die(enum status status, const char *fmt, ...)
{
	int err = errno;
	va_list ap;

	if (at_die)
		at_die();
	fprintf(stderr, "mafc%s%s: ", *command ? " " : "", command);
	va_start(ap, fmt);
	errno = err;
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	_exit(status);
}

void die_of(int err, pid_t pid)
{
	if (pid)
		die(FAILED, "process %d: %s", pid, reader_error(err));
	die(FAILED, "%s", reader_error(err));
}

int open_device(void)
{
	int fd = reader_open();

	if (fd < 0)
		die_of(fd, 0);
	return fd;
}

uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000ULL + t.tv_nsec / 1000000;
}

static const struct sysfs_file *tunable(const char *name, size_t len)
{
	const struct sysfs_file *t;

	for (t = reader_tunables; t->name; t++)
		if (strlen(t->name) == len && !strncmp(t->name, name, len))
			return t;
	die(USAGE, "no tunable %.*s; mafc tune lists them", (int)len, name);
}

static void tune_set(const char *arg)
{
	size_t len = strcspn(arg, "=");
	const struct sysfs_file *t = tunable(arg, len);
	char *end;
	unsigned long long v = strtoull(arg[len] ? arg + len + 1 : "", &end, 10);
	int err;

	if (end == arg + len + 1 || !arg[len] || *end || arg[len + 1] == '-' || v < t->min || v > t->max)
		die(USAGE, "%s: must be %s=N, from %llu to %llu %s", arg, t->name,
		    (unsigned long long)t->min, (unsigned long long)t->max, t->unit);
	err = reader_set(t->name, v);
	if (err)
		die(FAILED, "%s: %s", t->name, err == -EACCES ? "only root may set it" : reader_error(err));
}

int cmd_tune(void)
{
	const struct sysfs_file *t;
	char **arg;
	uint64_t v;
	int err;

	for (arg = opt.args; *arg; arg++)
		tunable(*arg, strcspn(*arg, "="));
	for (arg = opt.args; *arg; arg++)
		tune_set(*arg);
	begin(NULL, '[');
	for (t = reader_tunables; t->name; t++) {
		err = reader_get(t->name, &v);
		if (err)
			die_of(err, 0);
		if (!opt.json) {
			printf("%-18s %8llu %-2s  %llu..%-8llu %s\n", t->name, (unsigned long long)v, t->unit,
			       (unsigned long long)t->min, (unsigned long long)t->max, t->what);
			continue;
		}
		begin(NULL, '{');
		put_text("name", t->name);
		put("value", 0, v);
		put_text("unit", t->unit);
		put("min", 0, t->min);
		put("max", 0, t->max);
		put_text("what", t->what);
		end('{');
	}
	end('[');
	return OK;
}

/* What compact changes while it works. All writes wake the compactor, so the last is the one to do. */
static struct { const char *name; uint64_t now, then; } knobs[] = {
	{ "enable", 1, 0 }, { "threshold_percent", 0, 0 }, { "budget_percent", 100, 0 },
};

static void knobs_back(void)
{
	for (int i = 2; i >= 0; i--)
		reader_set(knobs[i].name, knobs[i].then);
}

static uint64_t work_done(void)
{
	static const char *const of[] = { "meshed", "moved", "dropped" };
	uint64_t v = 0, sum = 0;
	char name[40];

	for (int i = 0; i < 3; i++) {
		snprintf(name, sizeof(name), "counters/pages_%s", of[i]);
		reader_get(name, &v);
		sum += v;
	}
	return sum;
}

/* The kernel compacts another process's heap by its own thread only: so let it off the leash for a while. */
static void compact_all(void)
{
	uint64_t work, before, calm = 0, end = now_ms() + 60000;
	int i;

	if (access(MAFC_SYSFS "/enable", W_OK))
		die(FAILED, errno == EACCES ? "only root may do this" : MAFC_SYSFS "/enable: %m");
	for (i = 0; i < 3; i++)
		reader_get(knobs[i].name, &knobs[i].then);
	at_die = knobs_back;
	for (i = 0; i < 3; i++)
		reader_set(knobs[i].name, knobs[i].now);
	for (before = work_done(); calm < 3 && !stopped && now_ms() < end; before = work) {
		usleep(300000);
		work = work_done();
		calm = work - before < 16 ? calm + 1 : 0;
		reader_set(knobs[2].name, knobs[2].now);
	}
	knobs_back();
}

static void put_change(const struct heap_info *before, const struct heap_info *after)
{
	begin(NULL, '{');
	put("pid", 0, after->pid);
	put_text("comm", after->comm);
	put("held_was", 'B', before->stat.held);
	put("held", 'B', after->stat.held);
	put("frag_was", '%', before->stat.fragmentation);
	put("frag", '%', after->stat.fragmentation);
	put("meshed", 0, after->stat.meshed - before->stat.meshed);
	end('{');
}

int cmd_compact(void)
{
	struct heap_info *before, *after, none = { .pid = 0 };
	int fd = open_device();
	ssize_t i, j, m, n = reader_heaps(fd, &before);
	struct mafc_stat st;
	int err = opt.pid ? reader_stat(fd, opt.pid, &st) : 0;

	if (err || n < 0)
		die_of(err ? err : n, err ? opt.pid : 0);
	compact_all();
	m = reader_heaps(fd, &after);
	begin(NULL, '[');
	mode = opt.json ? LIST : HEADER;
	for (i = -(mode == HEADER); i < n; i++) {
		for (j = 0; i >= 0 && j < m && after[j].pid != before[i].pid;)
			j++;
		if (i >= 0 && (j >= m || (opt.pid && opt.pid != before[i].pid)))
			continue;
		put_change(i < 0 ? &none : &before[i], i < 0 ? &none : &after[j]);
		mode = opt.json ? LIST : TABLE;
	}
	end('[');
	return stopped ? FAILED : OK;
}

static int problems;

/* A line: @level 0 is good, 1 to know, 2 a problem; @advice says what to do about it. */
static void __attribute__((format(printf, 3, 4))) finding(int level, const char *advice, const char *fmt, ...)
{
	static const char *const levels[] = { "ok", "note", "problem" };
	char what[300];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	problems += level == 2;
	if (!opt.json) {
		printf("%-8s %s%s%s\n", levels[level], what, level ? ": " : "", level ? advice : "");
		return;
	}
	begin(NULL, '{');
	put_text("level", levels[level]);
	put_text("what", what);
	put_text("advice", level ? advice : NULL);
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
	struct utsname u;

	uname(&u);
	if (fd >= 0)
		finding(0, "", "module loaded, ABI version %d as this tool's, on Linux %s", MAFC_ABI_VERSION, u.release);
	else if (fd == -EPROTO)
		finding(2, "build and load the module of the same release", "the module is of another version");
	else if (fd == -EACCES || fd == -EPERM)
		finding(2, "chmod or chgrp the device (make load does), or in a container allow it in the device "
			"controller", MAFC_DEVICE " cannot be opened: %s", strerror(-fd));
	else if (loaded)
		finding(2, "pass it in, for example with --device " MAFC_DEVICE, "module loaded, but no " MAFC_DEVICE
			" here: %s", strerror(-fd));
	else
		finding(2, "insmod mafc.ko or modprobe mafc, as root; it must be built for this kernel",
			"the module is not loaded on Linux %s", u.release);
	if (!access(MAFC_DEVICE, F_OK) && access(MAFC_DEVICE, R_OK | W_OK) == 0)
		finding(0, "", MAFC_DEVICE " may be used by uid %d", getuid());
}

static void doctor_tunables(void)
{
	uint64_t enable = 1, budget = 1, cpu[2] = { 0, 0 };

	if (reader_get("enable", &enable) || reader_get("budget_percent", &budget) ||
	    reader_get("counters/compactor_cpu_ns", &cpu[0]))
		return;
	usleep(1000000);
	reader_get("counters/compactor_cpu_ns", &cpu[1]);
	cpu[1] -= cpu[0];
	if (!enable || !budget)
		finding(2, "mafc tune enable=1 budget_percent=1", "compaction is switched off");
	else
		finding(budget < 100 && cpu[1] * 10 >= budget * 90000000ULL, "mafc tune budget_percent=N, where heaps "
			"stay fragmented", "the compactor took %.2f %% of a CPU, of %d %% that it may take",
			cpu[1] / 1e7, (int)budget);
}

/* The limits of the memory cgroup of the process, and of those above it. */
static void doctor_cgroup(pid_t pid)
{
	static const char *const names[] = { "memory.max", "memory.high" };
	char path[4300], group[4000] = "", *slash;
	uint64_t now, limit;
	bool any = false;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/cgroup", pid);
	f = fopen(path, "re");
	while (f && fgets(path, sizeof(path), f))
		sscanf(path, "0::%3999s", group);
	if (f)
		fclose(f);
	while ((slash = strrchr(group, '/'))) {
		for (int i = 0; i < 2; i++) {
			snprintf(path, sizeof(path), "/sys/fs/cgroup%s/%s", group, names[i]);
			if (reader_number(path, &limit))
				continue;
			snprintf(path, sizeof(path), "/sys/fs/cgroup%s/memory.current", group);
			any = !reader_number(path, &now);
			finding(now > limit / 10 * 9, "near: raise it, or see mafc stat: heap pages cannot be swapped",
				"%s of cgroup %s is %s, %s in use", names[i], group, text('B', limit), text('B', now));
		}
		*slash = '\0';
	}
	if (!any)
		finding(0, "", "no memory cgroup limits process %d", pid);
}

static void doctor_process(pid_t pid, int fd)
{
	struct mafc_stat st;
	struct rlimit as;
	int err = fd < 0 ? fd : reader_stat(fd, pid, &st);

	if (opt.pid)
		finding(err ? 2 : 0, reader_error(err), "process %d %s", pid,
			err ? "cannot be looked at" : "has a heap on the device");
	if (opt.pid && !err && st.pinned)
		finding(1, "direct I/O or io_uring buffers in heap memory", "%llu times a page was found pinned",
			(unsigned long long)st.pinned);
	if (opt.pid && !err && st.cow_copies)
		finding(1, "pages that a child still shares are not compacted", "it has forked");
	doctor_cgroup(pid);
	if (!prlimit(pid, RLIMIT_AS, NULL, &as) && as.rlim_cur != RLIM_INFINITY)
		finding(as.rlim_cur < 512ULL << 20 ? 2 : 1, "below 512 MiB the device is not used (ulimit -v)",
			"RLIMIT_AS is %s", text('B', as.rlim_cur));
}

int cmd_doctor(void)
{
	int fd = reader_open(), node;
	long long spare;

	begin(NULL, '[');
	doctor_module(fd);
	if (fd >= 0)
		doctor_start();
	doctor_tunables();
	doctor_process(opt.pid ? opt.pid : getpid(), fd);
	for (node = 0; numa_available() >= 0 && node <= numa_max_node(); node++)
		if (numa_node_size64(node, &spare) > 0)
			finding(0, "", "node %d has %s free", node, text('B', spare));
	end('[');
	return problems ? FAILED : OK;
}

static const struct command {
	const char *name;
	int (*run)(void);
	const char *options, *args, *what;
} commands[] = {
	{ "run", cmd_run, "CcrMHbIF", "CMD...", "start a program with its heap on the device" },
	{ "stat", cmd_stat, "s", "[PID]", "the figures of one heap, or of all and the device" },
	{ "top", cmd_top, "sin", "", "the heaps, live" },
	{ "heatmap", cmd_heatmap, "S", "PID", "the pages of a heap by how full they are" },
	{ "classes", cmd_classes, "", "PID", "the size classes of a heap: live, held, fragmentation" },
	{ "compact", cmd_compact, "", "[PID]", "compact all heaps now; shows one, or all" },
	{ "tune", cmd_tune, "", "[NAME=N...]", "show and set the tunables of the device" },
	{ "check", cmd_check, "oafmCcrMHbI", "CMD...", "run a program; exit status 3 if it was over an SLO" },
	{ "doctor", cmd_doctor, "", "[PID]", "does it work here, which limits bite, what to do" },
};

static const struct option long_options[] = {
	{ "json", 0, NULL, 'j' }, { "help", 0, NULL, 'h' }, { "sort", 1, NULL, 's' }, { "interval", 1, NULL, 'i' },
	{ "count", 1, NULL, 'n' }, { "svg", 1, NULL, 'S' }, { "slo", 1, NULL, 'o' }, { "after", 1, NULL, 'a' },
	{ "for", 1, NULL, 'f' }, { "min", 1, NULL, 'm' }, { "no-compact", 0, NULL, 'C' },
	{ "cache-kib", 1, NULL, 'c' }, { "reserve-gib", 1, NULL, 'r' }, { "memory-max", 1, NULL, 'M' },
	{ "memory-high", 1, NULL, 'H' }, { "membind", 1, NULL, 'b' }, { "interleave", 1, NULL, 'I' },
	{ "fallback", 0, NULL, 'F' }, { NULL, 0, NULL, 0 },
};

static void usage(const struct command *only)
{
	const struct command *c;
	const struct option *o;

	for (c = commands; c < commands + sizeof(commands) / sizeof(*c); c++) {
		if (only && c != only)
			continue;
		printf("mafc %s [--json]", c->name);
		for (o = long_options; only && o->name; o++)
			if (strchr(c->options, o->val))
				printf(" [--%s%s]", o->name, o->has_arg ? " X" : "");
		printf("%s %s\n        %s\n", strchr(c->options, 'C') ? " [--]" : "", c->args, c->what);
	}
}

/* A number with one of @units behind it; each is worth @step times the one before it. */
static uint64_t number(const char *s, const char *const *units, const unsigned int *factor)
{
	char *end;
	double v = strtod(s, &end);

	for (; *units; units++, factor++)
		if (end != s && v >= 0 && v < 1e15 && !strcmp(end, *units))
			return v * *factor;
	die(USAGE, "%s: not a number that is possible here", s);
}

static uint64_t bytes(const char *s)
{
	return number(s, (const char *const[]){ "", "K", "M", "G", NULL },
		      (const unsigned int[]){ 1, 1 << 10, 1 << 20, 1 << 30 });
}

static uint64_t ms(const char *s)
{
	return number(s, (const char *const[]){ "", "s", "ms", "m", NULL },
		      (const unsigned int[]){ 1000, 1000, 1, 60000 });
}

static void bind_to(const char *nodes, bool interleave)
{
	struct bitmask *mask = numa_available() < 0 ? NULL : numa_parse_nodestring(nodes);

	if (!mask)
		die(USAGE, "%s: no such NUMA nodes", nodes);
	if (interleave)
		numa_set_interleave_mask(mask);
	else
		numa_set_membind(mask);
}

static void option(int c, const char *arg)
{
	switch (c) {
	case 'j': opt.json = true; js.f = stdout; break;
	case 's': opt.sort = *arg; break;
	case 'i': opt.interval = ms(arg); break;
	case 'n': opt.count = number(arg, (const char *const[]){ "", NULL }, (const unsigned int[]){ 1 }); break;
	case 'S': opt.svg = arg; break;
	case 'o': opt.slo = number(arg, (const char *const[]){ "", "%", NULL },
				   (const unsigned int[]){ 100, 100 }) / 100.0; break;
	case 'a': opt.after = ms(arg); break;
	case 'f': opt.lasting = ms(arg); break;
	case 'm': opt.at_least = bytes(arg); break;
	case 'H': opt.limit[0] = bytes(arg); break;
	case 'M': opt.limit[1] = bytes(arg); break;
	case 'C': setenv("MAFC_COMPACT", "0", 1); break;
	case 'c': setenv("MAFC_CACHE_KIB", arg, 1); break;
	case 'r': setenv("MAFC_RESERVE_GIB", arg, 1); break;
	case 'F': setenv("MAFC_REQUIRE", "0", 1); break;
	case 'b':
	case 'I': bind_to(arg, c == 'I'); break;
	}
}

static void arguments(const struct command *c)
{
	char *end, **args = opt.args;
	bool pid = strstr(c->args, "PID");

	if (!*args && *c->args && *c->args != '[')
		die(USAGE, "%s is missing", c->args);
	if (*args && (!*c->args || (pid && args[1])))
		die(USAGE, "%s: not expected", args[pid]);
	if (!*args || !pid)
		return;
	errno = 0;
	opt.pid = strtol(*args, &end, 10);
	if (*end || end == *args || opt.pid <= 0 || errno || strlen(*args) > 9)
		die(USAGE, "%s: not a process id", *args);
}

static void on_signal(int sig)
{
	(void)sig;
	stopped = 1;
}

int main(int argc, char **argv)
{
	const struct command *c = commands, *end = commands + sizeof(commands) / sizeof(*c);
	struct sigaction stop = { .sa_handler = on_signal };
	int o, which = 0;

	if (argc < 2 || !strcmp(argv[1], "--help") || !strcmp(argv[1], "help")) {
		usage(NULL);
		return argc < 2 ? USAGE : OK;
	}
	while (c < end && strcmp(c->name, argv[1]))
		c++;
	if (c == end)
		die(USAGE, "no subcommand %s; mafc --help lists them", argv[1]);
	command = c->name;
	opterr = 0;
	while ((o = getopt_long(argc - 1, argv + 1, "+:", long_options, &which)) != -1) {
		if (o == 'h') {
			usage(c);
			return OK;
		}
		if (o == '?' || o == ':' || (o != 'j' && !strchr(c->options, o)))
			die(USAGE, "%s%s: %s; see mafc %s --help", strchr("?:", o) ? "" : "--",
			    strchr("?:", o) ? argv[optind] : long_options[which].name,
			    o == ':' ? "wants a value" : "no such option", c->name);
		option(o, optarg);
	}
	opt.args = argv + 1 + optind;
	arguments(c);
	if (c->run != cmd_run && c->run != cmd_check) {
		sigaction(SIGINT, &stop, NULL);
		sigaction(SIGTERM, &stop, NULL);
	}
	o = c->run();
	if (opt.json && js.more)
		putchar('\n');
	return fflush(stdout) || ferror(stdout) ? FAILED : o;
}
