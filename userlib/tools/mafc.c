// SPDX-License-Identifier: Apache-2.0
/* mafc.c - mafc(1): the command line; and compact, tune, doctor */
#include "cli.h"

#include <getopt.h>
#include <sys/resource.h>

struct options opt = {
	.interval = 2000, .lasting = 2000, .at_least = 4 << 20, .slo = 1000, .sort = 'h', .top = 20,
};
struct json js;
volatile int stopped;

int die_if(int err, pid_t pid)
{
	if (err < 0 && pid)
		errx(FAILED, "process %d: %s", pid, reader_error(err));
	if (err < 0)
		errx(FAILED, "%s", reader_error(err));
	return err;
}

int open_device(void)
{
	return die_if(reader_open(), 0);
}

void *grow(void *p, size_t size)
{
	p = realloc(p, size);
	if (!p)
		errx(FAILED, "out of memory");
	return p;
}

/* @arg: NAME=N */
static void tune_set(const char *arg)
{
	const struct figure *t = device_figures;
	size_t len = strcspn(arg, "=");
	const char *value = arg + len + !!arg[len];
	uint64_t v;
	char *end;
	int err;

	while (strlen(t->file) != len || strncmp(t->file, arg, len))
		if (++t == device_figures + TUNABLES)
			errx(USAGE, "no tunable %.*s; mafc tune lists them", (int)len, arg);
	v = strtoull(value, &end, 10);
	if (!isdigit(*value) || *end || v < t->min || v > t->max)
		errx(USAGE, "%s: must be %s=N, from %s to %s %s", arg, t->file, text(0, t->min),
		     text(0, t->max), t->unit);
	err = reader_set(t->file, v);
	if (err)
		errx(FAILED, "%s: %s", t->file,
		     err == -EACCES ? "only root may set it" : reader_error(err));
}

static void put_tunable(size_t i)
{
	const struct figure *t = &device_figures[i];
	uint64_t v;

	die_if(reader_get(t->file, &v), 0);
	put_text("name", t->file, -18);
	put("value", 0, v);
	put_text("unit", t->unit, -4);
	put("min", 0, t->min);
	put("max", 0, t->max);
	put_text("what", t->help, 0);
}

int cmd_tune(void)
{
	for (char **arg = opt.args; *arg; arg++)
		tune_set(*arg);
	put_table(NULL, TUNABLES, put_tunable);
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

/* The kernel compacts another process's heap by its own thread only: so let that off the leash. */
static void compact_all(void)
{
	uint64_t work, before = 0, calm = 0, end = now_ms() + 60000;

	if (access(MAFC_SYSFS "/enable", W_OK))
		errx(FAILED, errno == EACCES ? "only root may do this" : MAFC_SYSFS "/enable: %m");
	for (size_t i = 0; i < LENGTH(knobs); i++)
		knobs[i].then = counter(knobs[i].name);
	atexit(knobs_back);
	for (; calm < 3 && !stopped && now_ms() < end; before = work) {
		for (size_t i = 0; i < LENGTH(knobs); i++)
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
		find_heaps(fd, NULL, &st);
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

static enum level { GOOD, NOTE, PROBLEM } worst;

/* A line. @advice says what to do about it, unless it is good. */
static void __attribute__((format(printf, 3, 4)))
finding(enum level level, const char *advice, const char *fmt, ...)
{
	static const char *const levels[] = { "ok", "note", "problem" };
	char what[4200];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	worst = level > worst ? level : worst;
	begin(NULL, '{');
	put_text("level", levels[level], -7);
	put_text("what", what, -50);
	put_text("advice", level ? advice : NULL, 0);
	end('{');
}

/* Does a program get its heap from the device?  This one is tried. */
static void try_start(void)
{
	const char *lib = library_path();
	int status = -1;
	pid_t pid;

	if (!lib) {
		finding(PROBLEM, "install it, or set MAFC_LIBRARY",
			"no libmafc.so beside this program or in ../lib");
		return;
	}
	pid = fork();
	if (!pid) {
		dup2(open("/dev/null", O_RDWR), 1);
		dup2(1, 2);
		opt.args = (char *[]){ "/proc/self/exe", "--help", NULL };
		start();
	}
	waitpid(pid, &status, 0);
	finding(status ? PROBLEM : GOOD,
		"try MAFC_REQUIRE=1 LD_PRELOAD=LIBRARY ls, which says why; "
		"library and module may be of different versions",
		"a program started with %s %s the device", lib,
		status ? "does not get a heap on" : "gets its heap from");
}

static void doctor_module(int fd)
{
	if (fd >= 0)
		finding(GOOD, "", "the module is loaded, of ABI version %d as this tool",
			MAFC_ABI_VERSION);
	else if (fd == -ENOENT && !access(MAFC_SYSFS, F_OK))
		finding(PROBLEM, "pass it in, for example by --device " MAFC_DEVICE,
			"the module is loaded, but there is no " MAFC_DEVICE " here");
	else if (fd == -ENOENT)
		finding(PROBLEM, "insmod or modprobe mafc, as root; it is built for one kernel",
			"the module is not loaded");
	else
		finding(PROBLEM, fd == -EPROTO ? "load the module of the same release" :
			"chmod or chgrp it (make load does), or allow it in the container's device "
			"controller", MAFC_DEVICE ": %s", reader_error(fd));
}

static void doctor_tunables(void)
{
	uint64_t enable = counter("enable"), budget = counter("budget_percent"), cpu;

	cpu = counter("counters/compactor_cpu_ns");
	usleep(1000000);
	cpu = counter("counters/compactor_cpu_ns") - cpu;
	if (!enable || !budget)
		finding(PROBLEM, "mafc tune enable=1 budget_percent=1",
			"compaction is switched off");
	else
		finding(budget < 100 && cpu > budget * 9000000 ? NOTE : GOOD,
			"where heaps stay fragmented, mafc tune budget_percent=N",
			"the compactor took %s of a CPU, of %s that it may take",
			text('%', cpu / 100000), text('%', budget * 100));
}

/* The limits of the memory cgroup of the process, and of those above it. */
static void doctor_cgroup(pid_t pid)
{
	static const char *const names[] = { "memory.max", "memory.high" };
	char group[4200], *slash;
	uint64_t now, limit;
	bool any = false;

	for (cgroup_of(pid, group); (slash = strrchr(group, '/')); *slash = '\0') {
		for (int i = 0; i < 2; i++) {
			if (reader_number(reader_file("re", "%s/%s", group, names[i]), &limit))
				continue;
			any = !reader_number(reader_file("re", "%s/memory.current", group), &now);
			finding(now > limit / 10 * 9 ? NOTE : GOOD,
				"near: raise it; heap pages cannot be swapped out",
				"%s of %s is %s, %s in use",
				names[i], group, text('B', limit), text('B', now));
		}
	}
	if (!any)
		finding(GOOD, "", "no memory cgroup limits process %d", pid);
}

static void doctor_process(pid_t pid, int fd)
{
	struct mafc_stat st = { .pinned = 0 };
	struct rlimit as;
	int err = fd < 0 ? fd : reader_stat(fd, pid, &st);

	if (opt.pid && err)
		finding(PROBLEM, reader_error(err), "process %d cannot be looked at", pid);
	if (st.pinned)
		finding(NOTE, "direct I/O or io_uring buffers in heap memory",
			"%s times a page was pinned", text(0, st.pinned));
	if (st.cow_copies)
		finding(NOTE, "pages that a child shares are not compacted", "it has forked");
	doctor_cgroup(pid);
	if (!prlimit(pid, RLIMIT_AS, NULL, &as) && as.rlim_cur != RLIM_INFINITY)
		finding(as.rlim_cur < 512 << 20 ? PROBLEM : NOTE,
			"below 512 MiB the device is not used (ulimit -v)",
			"RLIMIT_AS is %s", text('B', as.rlim_cur));
}

int cmd_doctor(void)
{
	int fd = reader_open(), node;
	long long spare;

	mode = TABLE;
	begin(NULL, '[');
	doctor_module(fd);
	if (fd >= 0) {
		try_start();
		doctor_tunables();
	}
	doctor_process(opt.pid ? opt.pid : getpid(), fd);
	for (node = 0; numa_available() >= 0 && node <= numa_max_node(); node++)
		if (numa_node_size64(node, &spare) > 0)
			finding(GOOD, "", "node %d has %s free", node, text('B', spare));
	end('[');
	return worst == PROBLEM ? FAILED : OK;
}

/* The @letter stands for the command in options[]. */
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
	{ "sites", 'i', cmd_sites, "PID", "who has what is live and keeps sparse pages" },
	{ "compact", 'c', cmd_compact, "[PID]", "compact all heaps now; show what was gained" },
	{ "tune", 'u', cmd_tune, "[NAME=N...]", "show and set the tunables of the device" },
	{ "check", 'x', cmd_run, "[--] CMD...", "run a program; status 3 if it was over an SLO" },
	{ "doctor", 'd', cmd_doctor, "[PID]", "does it work here, which limits bite, what to do" },
};

/*
 * Kinds of values: b(ytes), t(ime), n(umber), p(er cent), k(ey to sort by), s(tring), e(nvironment
 * variable), o(ne that need not be given, likewise); f(lags) have none.
 */
static const struct { const char *name, *of; char kind; void *to; } options[] = {
	{ "json", "rsthkicuxd", 'f', &opt.json },
	{ "sort", "st", 'k', &opt.sort },
	{ "interval", "t", 't', &opt.interval },
	{ "count", "t", 'n', &opt.count },
	{ "top", "i", 'n', &opt.top },
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
	{ "sites", "rx", 'o', "MAFC_SITES" },
};

static void usage(const struct command *c)
{
	printf("mafc %s", c->name);
	for (size_t i = 0; i < LENGTH(options); i++)
		if (strchr(options[i].of, c->letter))
			printf(" [--%s%s]", options[i].name, options[i].kind == 'f' ? "" :
			       options[i].kind == 'o' ? "[=X]" : " X");
	printf(" %s\n        %s\n", c->args, c->what);
}

/* Times are in seconds if nothing else is said. */
static double number(const char *s, char kind)
{
	static const struct { char kind; const char *unit; double worth; } units[] = {
		{ 'n', "", 1 }, { 'p', "", 100 }, { 'p', "%", 100 },
		{ 'b', "", 1 }, { 'b', "K", 1 << 10 }, { 'b', "M", 1 << 20 }, { 'b', "G", 1 << 30 },
		{ 't', "", 1000 }, { 't', "ms", 1 }, { 't', "s", 1000 }, { 't', "m", 60000 },
	};
	char *end;
	double v = strtod(s, &end);

	for (size_t i = 0; i < LENGTH(units) && end != s && v >= 0 && v < 1e12; i++)
		if (units[i].kind == kind && !strcmp(end, units[i].unit))
			return v * units[i].worth;
	errx(USAGE, "%s: not a number that is possible here", s);
}

static void set_option(char kind, void *to, const char *value)
{
	if (kind == 'k' && (!*value || !strchr(SORT_KEYS, *value) || value[1]))
		errx(USAGE, "%s: sort by h, l, f, n, m or p", value);
	if (kind == 'k')
		*(char *)to = *value;
	else if (kind == 'f')
		*(bool *)to = true;
	else if (kind == 's')
		*(const char **)to = value;
	else if (kind == 'o' && value && (!*value || value[strspn(value, "0123456789")]))
		errx(USAGE, "%s: not a number of KiB", value);
	else if (kind == 'e' || kind == 'o')
		setenv(to, value ? value : "64", 1);
	else
		*(uint64_t *)to = number(value, kind);
}

/* Takes the options from the front of the arguments; returns what is left. */
static char **parse(const struct command *c, int argc, char **argv)
{
	struct option longs[LENGTH(options) + 2] = { { "help", no_argument, NULL, 'h' } };
	int i, at, n = 1;

	for (i = 0; i < (int)LENGTH(options); i++)
		if (strchr(options[i].of, c->letter))
			longs[n++] = (struct option){
				options[i].name, options[i].kind == 'o' ? optional_argument :
				options[i].kind != 'f', NULL, i
			};
	opterr = 0;
	for (at = optind; (i = getopt_long(argc, argv, "+:", longs, NULL)) >= 0; at = optind) {
		if (i == ':')
			errx(USAGE, "%s wants a value", argv[at]);
		if (i == '?')
			errx(USAGE, "%s: %s; see mafc %s --help", argv[at],
			     strchr(argv[at], '=') ? "no such option, or it has no value" :
			     "no such option", c->name);
		if (i == 'h') {
			usage(c);
			exit(OK);
		}
		set_option(options[i].kind, options[i].to, optarg);
	}
	return argv + optind;
}

static void on_signal(int sig)
{
	stopped = sig;
}

int main(int argc, char **argv)
{
	static char name[32];
	const struct command *c = commands, *commands_end = commands + LENGTH(commands);
	struct sigaction stop = { .sa_handler = on_signal };
	bool takes_pid;
	int status;
	char *end;
	long pid;

	js.f = stdout;
	program_invocation_short_name = "mafc";
	if (argc < 2 || !strcmp(argv[1], "--help")) {
		for (; c < commands_end; c++)
			printf("mafc %s [--json] %s\n        %s\n", c->name, c->args, c->what);
		return argc < 2 ? USAGE : OK;
	}
	while (strcmp(c->name, argv[1]))
		if (++c == commands_end)
			errx(USAGE, "no subcommand %s; mafc --help lists them", argv[1]);
	snprintf(name, sizeof(name), "mafc %s", c->name);
	program_invocation_short_name = name;
	opt.judge = c->letter == 'x';
	opt.args = parse(c, argc - 1, argv + 1);
	takes_pid = strstr(c->args, "PID");
	if (!*opt.args && *c->args && !strstr(c->args, "[PID") && c->run != cmd_tune)
		errx(USAGE, "see mafc %s --help: %s is missing", c->name, c->args);
	if (*opt.args && (!*c->args || (takes_pid && opt.args[1])))
		errx(USAGE, "%s: not expected", opt.args[takes_pid]);
	if (*opt.args && takes_pid) {
		pid = strtol(*opt.args, &end, 10);
		if (*end || end == *opt.args || pid <= 0 || pid > INT32_MAX)
			errx(USAGE, "%s: not a process id", *opt.args);
		opt.pid = pid;
	}
	if (c->run == cmd_top || c->run == cmd_compact) {
		sigaction(SIGINT, &stop, NULL);
		sigaction(SIGTERM, &stop, NULL);
	}
	status = c->run();
	if (opt.json && js.more)
		putchar('\n');
	return fflush(stdout) || ferror(stdout) ? FAILED : status;
}
