// SPDX-License-Identifier: Apache-2.0
/* run.c - mafc run, check: start a program on the device, and watch it */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
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
	for (i = 0; i < sizeof(places) / sizeof(*places); i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, places[i]);
		if (!access(path, R_OK))
			return path;
	}
	return NULL;
}

/* A cgroup beside the caller's own, with the limits; an empty string where none was asked for. */
static char cgroup[4200];

static void cgroup_write(const char *file, uint64_t v)
{
	char path[4300];
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

static void cgroup_make(void)
{
	char line[4096], own[4000] = "/";
	FILE *f = fopen("/proc/self/cgroup", "re");

	while (f && fgets(line, sizeof(line), f))
		sscanf(line, "0::%3999s", own);
	if (f)
		fclose(f);
	*strrchr(own, '/') = '\0';
	snprintf(cgroup, sizeof(cgroup), "/sys/fs/cgroup%s/mafc-%d", own, getpid());
	if (mkdir(cgroup, 0755))
		die(FAILED, "%s: %m (systemd-run --scope -p MemoryMax=... is another way)", cgroup);
	at_die = cgroup_end;
	if (opt.limit[0])
		cgroup_write("memory.high", opt.limit[0]);
	if (opt.limit[1])
		cgroup_write("memory.max", opt.limit[1]);
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
	setenv("MAFC_REQUIRE", "1", 0);
	if (*cgroup)
		cgroup_write("cgroup.procs", getpid());
	at_die = NULL;
	execvp(*opt.args, opt.args);
	die(errno == ENOENT ? 127 : 126, "%s: %m", *opt.args);
}

/* A process that is watched: since when it is over the SLO, 0 if it is not. */
struct watched {
	pid_t pid;
	uint64_t since;
};

struct watch {
	int fd;
	uint64_t started;
	struct watched *of;
	size_t n;
	uint64_t samples;
	bool over;
	struct heap_info worst;	/* what was over the SLO, or else had most fragmentation of all */
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

static struct watched *watched(struct watch *w, pid_t pid)
{
	size_t i;

	for (i = 0; i < w->n; i++)
		if (w->of[i].pid == pid)
			return &w->of[i];
	w->of = realloc(w->of, (w->n + 1) * sizeof(*w->of));
	if (!w->of)
		die(FAILED, "out of memory");
	w->of[w->n] = (struct watched){ .pid = pid };
	return &w->of[w->n++];
}

static void sample(struct watch *w)
{
	uint64_t now = now_ms();
	struct heap_info *h, *list;
	ssize_t n = now - w->started < opt.after || w->over ? 0 : reader_heaps(w->fd, &list);
	struct watched *p;

	if (n <= 0)
		return;
	for (h = list; h < list + n && !w->over; h++) {
		if (!is_descendant(h->pid))
			continue;
		w->samples++;
		p = watched(w, h->pid);
		if (h->stat.held >= opt.at_least && h->stat.fragmentation > opt.slo * 100) {
			p->since = p->since ? p->since : now;
			w->over = now - p->since >= opt.lasting;
		} else {
			p->since = 0;
		}
		if (w->over || (h->stat.held >= opt.at_least && h->stat.fragmentation >= w->worst.stat.fragmentation))
			w->worst = *h;
	}
	free(list);
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
	struct watch w = { .fd = open_device() };
	const struct heap_info *h = &w.worst;
	int status;

	if (opt.limit[0] || opt.limit[1])
		cgroup_make();
	status = supervise(&w, judge || opt.json);
	if (*cgroup)
		cgroup_end();
	begin(NULL, '{');
	if (opt.json) {
		put("status", 0, status);
		put("samples", 0, w.samples);
		json_bool(&js, "over_slo", w.over);
		put("slo", '%', opt.slo * 100);
		begin("worst", '{');
		put_members(h);
		end('{');
	}
	end('{');
	if (!judge)
		return status;
	if (w.over)
		fprintf(stderr, "mafc check: over the SLO of %g %% for %g s: %s (%d) at %s, %s held, %s live\n",
			opt.slo, opt.lasting / 1e3, h->comm, h->pid, text('%', h->stat.fragmentation),
			text('B', h->stat.held), text('B', h->stat.live));
	else if (!w.samples)
		die(FAILED, "nothing was measured: no heap on " MAFC_DEVICE " was seen%s", opt.after ?
		    " so late (--after)" : "");
	else if (!opt.json)
		fprintf(stderr, "mafc check: within the SLO of %g %%: %llu samples, at most %s\n", opt.slo,
			(unsigned long long)w.samples, text('%', h->stat.fragmentation));
	return w.over ? OVER_SLO : status;
}

int cmd_check(void)
{
	return run_watched(true);
}

int cmd_run(void)
{
	if (opt.json || opt.limit[0] || opt.limit[1])
		return run_watched(false);
	if (strcmp(getenv("MAFC_REQUIRE") ? getenv("MAFC_REQUIRE") : "", "0"))
		close(open_device());
	start();
}
