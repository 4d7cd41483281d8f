// SPDX-License-Identifier: Apache-2.0
/* run.c - mafc run, check: start a program on the device, and watch it */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli.h"

const char *library_path(void)
{
	static const char *const places[] = {
		"libmafc.so", "../lib/libmafc.so.1", "../lib/x86_64-linux-gnu/libmafc.so.1",
	};
	static char path[4200];
	char dir[4096] = "";
	size_t i;

	if (getenv("MAFC_LIBRARY"))
		return realpath(getenv("MAFC_LIBRARY"), path);
	if (readlink("/proc/self/exe", dir, sizeof(dir) - 1) < 0)
		return NULL;
	*strrchr(dir, '/') = '\0';
	for (i = 0; i < LENGTH(places); i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, places[i]);
		if (!access(path, R_OK))
			return path;
	}
	return NULL;
}

static char cgroup[4300];	/* with the limit; an empty string where none was asked for */

static void cgroup_write(const char *file, uint64_t v)
{
	char path[4400];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", cgroup, file);
	f = fopen(path, "we");
	if (f)
		fprintf(f, "%llu", (unsigned long long)v);
	if (!f || fclose(f))
		die(FAILED, "%s: %m (systemd-run --scope -p MemoryMax=... is another way)", path);
}

static void cgroup_end(void)
{
	rmdir(cgroup);
}

void cgroup_of(pid_t pid, char path[4200])
{
	char line[4200], group[4100] = "/";
	FILE *f;

	snprintf(line, sizeof(line), "/proc/%d/cgroup", pid);
	f = fopen(line, "re");
	while (f && fgets(line, sizeof(line), f))
		sscanf(line, "0::%4099s", group);
	if (f)
		fclose(f);
	snprintf(path, 4200, "/sys/fs/cgroup%s", group);
}

/* Beside the caller's own, as a cgroup with processes in it may have no others below. */
static void cgroup_make(void)
{
	char own[4200];

	cgroup_of(getpid(), own);
	snprintf(cgroup, sizeof(cgroup), "%.*s/mafc-%d", (int)(strrchr(own, '/') - own), own, getpid());
	mkdir(cgroup, 0755);
	atexit(cgroup_end);
	cgroup_write("memory.max", opt.memory_max);
}

static void __attribute__((noreturn)) start(void)
{
	const char *lib = library_path(), *old = getenv("LD_PRELOAD");
	char *preload;

	if (!lib)
		die(FAILED, "no libmafc.so beside this program or in ../lib; MAFC_LIBRARY=FILE names it");
	if (asprintf(&preload, "%s%s%s", lib, old && *old ? ":" : "", old ? old : "") < 0)
		die(FAILED, "out of memory");
	setenv("LD_PRELOAD", preload, 1);
	setenv("MAFC_REQUIRE", opt.fallback ? "0" : "1", 1);
	if (opt.no_compact)
		setenv("MAFC_COMPACT", "0", 1);
	if (*cgroup)
		cgroup_write("cgroup.procs", getpid());
	execvp(*opt.args, opt.args);
	die(errno == ENOENT ? 127 : 126, "%s: %m", *opt.args);
}

/**
 * struct watch - the heaps of a program and its descendants, taken together
 * @since: they are over the SLO, 0 if they are not
 * @over: they were, for too long
 * @worst: when they were, or else had most fragmentation
 */
struct watch {
	int fd;
	uint64_t started, since, samples;
	bool over;
	struct mafc_stat worst;
};

static bool is_descendant(pid_t pid)
{
	char path[64], line[512], *paren;
	FILE *f;

	while (pid > 1 && pid != getpid()) {
		snprintf(path, sizeof(path), "/proc/%d/stat", pid);
		f = fopen(path, "re");
		pid = 0;
		if (f && fgets(line, sizeof(line), f) && (paren = strrchr(line, ')')))
			sscanf(paren, ") %*c %d", &pid);
		if (f)
			fclose(f);
	}
	return pid == getpid();
}

static void sample(struct watch *w)
{
	struct mafc_stat sum;
	uint64_t now = now_ms();

	if (w->over || now - w->started < opt.after || !sum_heaps(w->fd, is_descendant, &sum))
		return;
	w->samples++;
	if (sum.held < opt.at_least || sum.fragmentation <= opt.slo * 100)
		w->since = 0;
	else
		w->since = w->since ? w->since : now;
	w->over = w->since && now - w->since >= opt.lasting;
	if (w->over || (sum.held >= opt.at_least && sum.fragmentation >= w->worst.fragmentation))
		w->worst = sum;
}

/* Runs the program to its end; returns its status as a shell would. */
static int supervise(struct watch *w, bool look)
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
	if (!child) {
		sigprocmask(SIG_SETMASK, &old, NULL);
		if (opt.json)
			dup2(2, 1);
		start();
	}
	if (child < 0)
		die(FAILED, "fork: %m");
	/* The terminal sends these to the program as well, which may live on. */
	signal(SIGINT, SIG_IGN);
	signal(SIGQUIT, SIG_IGN);
	w->started = now_ms();
	for (;;) {
		sig = sigtimedwait(&set, NULL, &tick);
		if (sig == SIGTERM || sig == SIGHUP)
			kill(child, sig);
		while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
			if (pid == child)
				return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
		if (look)
			sample(w);
	}
}

/* Runs the program, watched: to be judged by the SLO, or for figures at its end. */
static int run_watched(bool judge)
{
	struct watch w = { .fd = opt.fallback ? reader_open() : open_device() };
	int status;

	if (opt.memory_max)
		cgroup_make();
	status = supervise(&w, judge || opt.json);
	if (opt.json) {
		begin(NULL, '{');
		put("status", 0, status);
		put("samples", 0, w.samples);
		put("slo", '%', opt.slo * 100);
		json_bool(&js, "over_slo", w.over);
		put("frag", '%', w.worst.fragmentation);
		put("held", 'B', w.worst.held);
		put("live", 'B', w.worst.live);
		end('{');
	}
	if (!judge || (!w.samples && status))
		return status;
	if (!w.samples)
		die(FAILED, "nothing was measured: no heap on " MAFC_DEVICE " was seen%s", opt.after ?
		    " so late (--after)" : "");
	fprintf(stderr, w.over ? "mafc check: over the SLO of %g %% for %g s: %s, with %s held and %s live\n" :
		"mafc check: within the SLO of %g %% (never for %g s over it); at most %s, with %s held and %s live\n",
		opt.slo, opt.lasting / 1e3, text('%', w.worst.fragmentation), text('B', w.worst.held),
		text('B', w.worst.live));
	return w.over ? OVER_SLO : status;
}

int cmd_check(void)
{
	return run_watched(true);
}

int cmd_run(void)
{
	if (opt.json || opt.memory_max)
		return run_watched(false);
	close(opt.fallback ? -1 : open_device());
	start();
}
