// SPDX-License-Identifier: Apache-2.0
/* run.c - mafc run, check: start a program on the device, and watch it */
#include "cli.h"

#include <sys/prctl.h>
#include <sys/stat.h>

const char *library_path(void)
{
	static const char *const places[] = {
		"libmafc.so", "../lib/libmafc.so.1", "../lib/x86_64-linux-gnu/libmafc.so.1",
	};
	static char path[4200];
	char dir[4096] = "";

	if (getenv("MAFC_LIBRARY"))
		return realpath(getenv("MAFC_LIBRARY"), path);
	if (readlink("/proc/self/exe", dir, sizeof(dir) - 1) < 0)
		return NULL;
	*strrchr(dir, '/') = '\0';
	for (size_t i = 0; i < LENGTH(places); i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, places[i]);
		if (!access(path, R_OK))
			return path;
	}
	return NULL;
}

void cgroup_of(pid_t pid, char path[4200])
{
	char line[4200], group[4100] = "/";
	FILE *f = reader_file("re", "/proc/%d/cgroup", pid);

	while (reader_line(f, line, sizeof(line)))
		sscanf(line, "0::%4099s", group);
	snprintf(path, 4200, "/sys/fs/cgroup%s", group);
}

static char cgroup[4300];	/* with the limit; an empty string where none was asked for */

static void cgroup_write(const char *file, uint64_t v)
{
	if (reader_write(reader_file("r+e", "%s/%s", cgroup, file), v))
		err(FAILED, "%s/%s (systemd-run --scope -p MemoryMax=... is another way)",
		    cgroup, file);
}

static void cgroup_end(void)
{
	rmdir(cgroup);
}

/* Beside the caller's own, as a cgroup with processes in it may have no others below. */
static void cgroup_make(void)
{
	char own[4200];

	cgroup_of(getpid(), own);
	*strrchr(own, '/') = '\0';
	snprintf(cgroup, sizeof(cgroup), "%s/mafc-%d", own, getpid());
	mkdir(cgroup, 0755);
	atexit(cgroup_end);
	cgroup_write("memory.max", opt.memory_max);
}

void start(void)
{
	const char *lib = library_path(), *old = getenv("LD_PRELOAD");
	char *preload;

	if (!lib)
		errx(FAILED, "no libmafc.so beside this program or in ../lib; "
		     "MAFC_LIBRARY=FILE names it");
	if (asprintf(&preload, "%s%s%s", lib, old && *old ? ":" : "", old ? old : "") < 0)
		errx(FAILED, "out of memory");
	setenv("LD_PRELOAD", preload, 1);
	setenv("MAFC_REQUIRE", opt.fallback ? "0" : "1", 1);
	if (opt.no_compact)
		setenv("MAFC_COMPACT", "0", 1);
	if (*cgroup)
		cgroup_write("cgroup.procs", getpid());
	execvp(*opt.args, opt.args);
	err(errno == ENOENT ? 127 : 126, "%s", *opt.args);
}

/*
 * The heaps of a program and its descendants, taken together: since when they are over the SLO (0:
 * they are not); whether they were for too long; when they were, or else had most fragmentation.
 */
static struct {
	int fd;
	uint64_t started, since, samples;
	bool over;
	struct mafc_stat worst;
} watch;

static bool is_descendant(pid_t pid)
{
	char line[512], *paren;
	FILE *f;

	while (pid > 1 && pid != getpid()) {
		f = reader_file("re", "/proc/%d/stat", pid);
		pid = 0;
		while (reader_line(f, line, sizeof(line)))
			if ((paren = strrchr(line, ')')))
				sscanf(paren, ") %*c %d", &pid);
	}
	return pid == getpid();
}

static void sample(void)
{
	uint64_t now = now_ms();
	struct mafc_stat sum;
	bool counts;

	if (watch.over || now - watch.started < opt.after ||
	    !find_heaps(watch.fd, is_descendant, &sum))
		return;
	watch.samples++;
	counts = sum.held >= opt.at_least;
	if (!counts || sum.fragmentation <= opt.slo)
		watch.since = 0;
	else if (!watch.since)
		watch.since = now;
	watch.over = watch.since && now - watch.since >= opt.lasting;
	if (watch.over || (counts && sum.fragmentation >= watch.worst.fragmentation))
		watch.worst = sum;
}

/* Runs the program to its end, looking at it, if so wanted; returns its status as a shell would. */
static int supervise(bool look)
{
	struct timespec tick = { .tv_nsec = 200000000 };
	sigset_t set, old;
	pid_t child, pid;
	int sig, status;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, &old);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	child = fork();
	if (child < 0)
		err(FAILED, "fork");
	if (!child) {
		sigprocmask(SIG_SETMASK, &old, NULL);
		if (opt.json)
			dup2(2, 1);
		start();
	}
	/* The terminal sends these to the program as well, which may live on. */
	signal(SIGINT, SIG_IGN);
	signal(SIGQUIT, SIG_IGN);
	watch.started = now_ms();
	for (;;) {
		sig = sigtimedwait(&set, NULL, &tick);
		if (sig == SIGTERM || sig == SIGHUP)
			kill(child, sig);
		while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
			if (pid == child)
				return WIFEXITED(status) ? WEXITSTATUS(status) :
							   128 + WTERMSIG(status);
		if (look)
			sample();
	}
}

/* Judged by the SLO, or for figures at its end, the program is watched. */
int cmd_run(void)
{
	const struct mafc_stat *worst = &watch.worst;
	int status;

	if (!opt.judge && !opt.json && !opt.memory_max) {
		close(opt.fallback ? -1 : open_device());
		start();
	}
	watch.fd = opt.fallback ? reader_open() : open_device();
	if (opt.memory_max)
		cgroup_make();
	status = supervise(opt.judge || opt.json);
	if (opt.json) {
		begin(NULL, '{');
		put("status", 0, status);
		put("samples", 0, watch.samples);
		put("slo", '%', opt.slo);
		json_bool(&js, "over_slo", watch.over);
		put("frag", '%', worst->fragmentation);
		put("held", 'B', worst->held);
		put("live", 'B', worst->live);
		end('{');
	}
	if (!opt.judge || (!watch.samples && status))
		return status;
	if (!watch.samples)
		errx(FAILED, "nothing was measured: no heap on " MAFC_DEVICE " was seen%s",
		     opt.after ? " so late (--after)" : "");
	warnx(watch.over ? "over the SLO of %g %% for %g s: %s, with %s held and %s live" :
	      "within the SLO of %g %% (never for %g s over it); at most %s, with %s held and %s "
	      "live", opt.slo / 100.0, opt.lasting / 1e3, text('%', worst->fragmentation),
	      text('B', worst->held), text('B', worst->live));
	return watch.over ? OVER_SLO : status;
}
