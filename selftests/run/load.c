// SPDX-License-Identifier: GPL-2.0-only
/*
 * load - drives one redis-server over a unix socket through the LRU fragmentation recipe
 *
 * The steps named on the command line run in order; each prints its figures as JSON members on stdout
 * and its progress on stderr. Keys and values follow from the index of the key alone, so a later
 * process can verify what an earlier one inserted. Everything is written and parsed by hand: in an
 * emulated guest each microsecond here is one that the server under test does not get.
 */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define KEY_LEN		20	/* "key:" and 16 hex digits */
#define VALUE_MAX	492
#define SET_BATCH	100	/* commands per write; two batches are in flight */
#define MGET_BATCH	64	/* keys per MGET */
#define SHOWN_MAX	10	/* mismatches described in full */
#define MIB		1048576.0

/* The two phases of the recipe: this many random keys with values of this length. */
static struct phase {
	uint64_t count;
	size_t length;
} phases[] = { { 700000, 240 }, { 170000, VALUE_MAX } };

static const char *label = "redis";
static const char *group;	/* cgroup directory of the server, or NULL: use its Pss */
static const char *socket_path;
static pid_t server;
static unsigned int idle_seconds = 10;
static bool on_tty;

static int fd = -1;
static char out[SET_BATCH * (VALUE_MAX + 128)];
static size_t out_len;
static char in[1 << 20];
static size_t in_at, in_end;

static void __attribute__((noreturn, format(printf, 1, 2))) die(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fprintf(stderr, "load: %s: ", label);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
	exit(1);
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* Prints one JSON member; all figures leave the program here. */
static void figure(const char *name, const char *fmt, double value)
{
	static bool more;

	printf("%s\"%s\": ", more ? ", " : "", name);
	printf(fmt, value);
	more = true;
}

/* --- progress ------------------------------------------------------------------------------------ */

/* Shows how far a step is: one line that is updated on a terminal, else a line per 10 % or 4 s. */
static void progress(const char *step, uint64_t done, uint64_t total)
{
	static double last;
	static uint64_t last_tenth;
	uint64_t tenth = done * 10 / total;
	double since = now() - last;

	if (done < total && since < (on_tty ? 0.2 : 4.0) && (on_tty || since < 1.0 || tenth == last_tenth))
		return;
	last += since;
	last_tenth = tenth;
	fprintf(stderr, "%s%-9s %-8s %3u %%%s", on_tty ? "\r" : "", label, step, (unsigned int)(done * 100 / total),
		on_tty && done < total ? " " : "\n");
}

/* --- keys and values ----------------------------------------------------------------------------- */

/* Finaliser of splitmix64: a bijection, so that different indices give different keys. */
static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ULL;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
	return x ^ (x >> 31);
}

static void make_key(char *key, uint64_t id)
{
	memcpy(key, "key:", 4);
	for (int i = KEY_LEN - 1; i >= 4; i--, id >>= 4)
		key[i] = "0123456789abcdef"[id & 15];
}

/* Fills @value with @length bytes of xorshift64 started from the key and the length class. */
static void make_value(char *value, uint64_t id, size_t length)
{
	uint64_t x = mix(id ^ length) | 1;

	for (size_t i = 0; i < length; i += sizeof(x)) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		memcpy(value + i, &x, length - i < sizeof(x) ? length - i : sizeof(x));
	}
}

/* --- RESP over a unix socket --------------------------------------------------------------------- */

/* The server may still be starting: tries as long as it lives, for a minute. */
static void connect_server(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	const struct timespec pause = { .tv_nsec = 50 * 1000 * 1000 };
	double deadline = now() + 60;

	if (strlen(socket_path) >= sizeof(addr.sun_path))
		die("socket path too long: %s", socket_path);
	strcpy(addr.sun_path, socket_path);
	for (;;) {
		fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (fd < 0)
			die("socket: %s", strerror(errno));
		if (!connect(fd, (struct sockaddr *)&addr, sizeof(addr)))
			return;
		close(fd);
		if (server && kill(server, 0))
			die("the server is gone before it listened");
		if (now() > deadline)
			die("%s: %s", socket_path, strerror(errno));
		nanosleep(&pause, NULL);
	}
}

static void put(const void *data, size_t len)
{
	if (len > sizeof(out) - out_len)
		die("output buffer too small");
	memcpy(out + out_len, data, len);
	out_len += len;
}

static void put_count(char type, size_t n)
{
	char head[32];

	put(head, (size_t)snprintf(head, sizeof(head), "%c%zu\r\n", type, n));
}

static void put_bulk(const void *data, size_t len)
{
	put_count('$', len);
	put(data, len);
	put("\r\n", 2);
}

static void flush_out(void)
{
	for (size_t done = 0; done < out_len;) {
		ssize_t n = write(fd, out + done, out_len - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			die("write to the server: %s", strerror(errno));
		done += (size_t)n;
	}
	out_len = 0;
}

static void fill_in(void)
{
	ssize_t n;

	if (in_at) {
		memmove(in, in + in_at, in_end - in_at);
		in_end -= in_at;
		in_at = 0;
	}
	if (in_end == sizeof(in))
		die("reply too long");
	do
		n = read(fd, in + in_end, sizeof(in) - in_end);
	while (n < 0 && errno == EINTR);
	if (n <= 0)
		die("the server closed the connection: %s", n ? strerror(errno) : "end of file");
	in_end += (size_t)n;
}

/* Next line of the reply, without its CRLF; valid until the next call. An error reply ends the program. */
static const char *get_line(void)
{
	size_t seen = 0;
	char *line, *end;

	while (!(end = memchr(in + in_at + seen, '\n', in_end - in_at - seen))) {
		seen = in_end - in_at;
		fill_in();
	}
	line = in + in_at;
	in_at = (size_t)(end - in) + 1;
	if (end == line || end[-1] != '\r')
		die("malformed reply");
	end[-1] = '\0';
	if (line[0] == '-')
		die("the server answered: %s", line);
	return line;
}

static long get_number(char type)
{
	const char *line = get_line();

	if (line[0] != type)
		die("expected a reply of type %c, got: %.80s", type, line);
	return strtol(line + 1, NULL, 10);
}

/* Next bulk string: its length, or -1 where the key does not exist. */
static long get_bulk(const char **data)
{
	long len = get_number('$');

	if (len < 0)
		return -1;
	while (in_end - in_at < (size_t)len + 2)
		fill_in();
	*data = in + in_at;
	in_at += (size_t)len + 2;
	return len;
}

/* Sends one command of @argc strings, without waiting for its reply. */
static void command(size_t argc, ...)
{
	va_list ap;

	put_count('*', argc);
	va_start(ap, argc);
	while (argc--) {
		const char *arg = va_arg(ap, const char *);

		put_bulk(arg, strlen(arg));
	}
	va_end(ap);
	flush_out();
}

/* --- what the server holds ----------------------------------------------------------------------- */

/* Number after @name in @path; with an empty name the file's first number. */
static double number_in(const char *path, const char *name)
{
	size_t len = strlen(name);
	double value = -1;
	char line[256];
	FILE *f = fopen(path, "re");

	if (!f)
		die("%s: %s", path, strerror(errno));
	while (value < 0 && fgets(line, sizeof(line), f))
		if (!strncmp(line, name, len) && strchr(" :0123456789", line[len]))
			value = strtod(line + len + (len && line[len] == ':'), NULL);
	fclose(f);
	if (value < 0)
		die("%s: no figure %s", path, name);
	return value;
}

/*
 * Memory charged to the server's cgroup without the page cache, which is no allocator's doing. A host
 * without cgroup v2 gives Pss instead: good for developing, not for quoting.
 */
static double held_mib(void)
{
	char path[4096], stat[4096];

	if (!group) {
		snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int)server);
		return number_in(path, "Pss") * 1024 / MIB;
	}
	snprintf(path, sizeof(path), "%s/memory.current", group);
	snprintf(stat, sizeof(stat), "%s/memory.stat", group);
	return (number_in(path, "") - number_in(stat, "file")) / MIB;
}

static double used_mib(void)
{
	static const char name[] = "\nused_memory:";
	const char *text, *hit;
	long len;

	command(2, "INFO", "memory");
	len = get_bulk(&text);
	hit = len < 0 ? NULL : memmem(text, (size_t)len, name, strlen(name));
	if (!hit)
		die("INFO memory gives no used_memory");
	return strtod(hit + strlen(name), NULL) / MIB;
}

/* --- steps --------------------------------------------------------------------------------------- */

static uint64_t put_sets(uint64_t id, uint64_t end, size_t length)
{
	char key[KEY_LEN], value[VALUE_MAX];
	uint64_t n;

	for (n = 0; n < SET_BATCH && id < end; n++, id++) {
		uint64_t hash = mix(id);

		make_key(key, hash);
		make_value(value, hash, length);
		put("*3\r\n$3\r\nSET\r\n", 13);
		put_bulk(key, KEY_LEN);
		put_bulk(value, length);
	}
	flush_out();
	return n;
}

static void insert(unsigned int which)
{
	uint64_t first = which ? phases[0].count : 0;
	uint64_t end = first + phases[which].count;
	uint64_t sent = first, acked = first;
	const char *step = which ? "insert 2" : "insert 1";
	double start = now();

	if (first < end)
		sent += put_sets(sent, end, phases[which].length);
	while (acked < end) {
		uint64_t goal = sent;

		sent += put_sets(sent, end, phases[which].length);
		for (; acked < goal; acked++)
			if (strcmp(get_line(), "+OK"))
				die("SET was not answered with OK");
		progress(step, acked - first, end - first);
	}
	figure(which ? "insert2_s" : "insert1_s", "%.2f", now() - start);
	if (server)
		figure(which ? "held2_mib" : "held1_mib", "%.1f", held_mib());
}

static void idle(void)
{
	const struct timespec second = { .tv_sec = 1 };
	double start = now(), held;

	for (unsigned int s = 0; s < idle_seconds; s++) {
		nanosleep(&second, NULL);
		if (server && (s % 2 || on_tty))
			fprintf(stderr, "%s%-9s idle     %2u s, held %.1f MiB%s", on_tty ? "\r" : "", label, s + 1,
				held_mib(), on_tty && s + 1 < idle_seconds ? " " : "\n");
	}
	figure("idle_s", "%.2f", now() - start);
	if (server) {
		held = held_mib();
		figure("held_mib", "%.1f", held);
		figure("used_mib", "%.1f", used_mib());
	}
}

/* Compares a value with what was inserted under key @id; describes the first few that differ. */
static bool right_value(uint64_t id, const char *data, size_t len)
{
	static unsigned int shown;
	size_t length = phases[id < phases[0].count ? 0 : 1].length, i = 0;
	char value[VALUE_MAX];

	make_value(value, mix(id), length);
	if (len == length && !memcmp(data, value, length))
		return true;
	if (shown++ < SHOWN_MAX) {
		while (i < len && i < length && data[i] == value[i])
			i++;
		fprintf(stderr, "%-9s mismatch: key %016llx: %zu bytes for %zu, different from byte %zu on\n", label,
			(unsigned long long)mix(id), len, length, i);
	}
	return false;
}

static uint64_t put_mget(uint64_t id, uint64_t end)
{
	uint64_t n = end - id < MGET_BATCH ? end - id : MGET_BATCH;
	char key[KEY_LEN];

	if (!n)
		return 0;
	put_count('*', n + 1);
	put_bulk("MGET", 4);
	for (uint64_t i = 0; i < n; i++) {
		make_key(key, mix(id + i));
		put_bulk(key, KEY_LEN);
	}
	flush_out();
	return n;
}

/*
 * Reads every key back. A missing one was evicted; but the ones that are found must be all the server
 * has: what DBSIZE counts beyond them is a key that came out of the heap damaged.
 */
static void verify(void)
{
	uint64_t end = phases[0].count + phases[1].count;
	uint64_t sent, acked = 0, found = 0, wrong = 0;
	uint64_t size;

	/* Reading allocates too, and the server evicts before every command while a limit is set. */
	command(4, "CONFIG", "SET", "maxmemory", "0");
	get_line();
	command(1, "DBSIZE");
	size = (uint64_t)get_number(':');

	sent = put_mget(0, end);
	while (acked < end) {
		uint64_t goal = sent;

		sent += put_mget(sent, end);
		while (acked < goal) {
			long n = get_number('*');

			for (; n > 0; n--, acked++) {
				const char *data;
				long len = get_bulk(&data);

				if (len < 0)
					continue;
				found++;
				wrong += !right_value(acked, data, (size_t)len);
			}
		}
		progress("verify", acked, end);
	}
	if (size != found) {
		fprintf(stderr, "%-9s mismatch: %llu keys found, DBSIZE says %llu\n", label,
			(unsigned long long)found, (unsigned long long)size);
		wrong += size > found ? size - found : found - size;
	}
	figure("verified_keys", "%.0f", (double)found);
	figure("mismatches", "%.0f", (double)wrong);
}

static void __attribute__((noreturn)) usage(void)
{
	fputs("usage: load -s SOCKET [-p PID] [-g CGROUP] [-l LABEL] [-n PERCENT] [-i IDLE_SECONDS] [-t] STEP...\n"
	      "steps: insert1 insert2 idle verify\n"
	      "-p: the server, whose memory is then measured; -g: its cgroup v2 directory\n"
	      "-n: this share of the recipe's keys; -t: progress is for a terminal\n", stderr);
	exit(2);
}

int main(int argc, char **argv)
{
	unsigned long percent = 100;
	int c;

	while ((c = getopt(argc, argv, "s:p:g:l:n:i:t")) != -1) {
		switch (c) {
		case 's':
			socket_path = optarg;
			break;
		case 'p':
			server = (pid_t)strtol(optarg, NULL, 10);
			break;
		case 'g':
			group = optarg;
			break;
		case 'l':
			label = optarg;
			break;
		case 'n':
			percent = strtoul(optarg, NULL, 10);
			break;
		case 'i':
			idle_seconds = (unsigned int)strtoul(optarg, NULL, 10);
			break;
		case 't':
			on_tty = true;
			break;
		default:
			usage();
		}
	}
	if (!socket_path || optind == argc || !percent || percent > 100)
		usage();
	for (size_t i = 0; i < 2; i++)
		phases[i].count = phases[i].count * percent / 100;

	signal(SIGPIPE, SIG_IGN);
	connect_server();
	for (; optind < argc; optind++) {
		if (!strcmp(argv[optind], "insert1"))
			insert(0);
		else if (!strcmp(argv[optind], "insert2"))
			insert(1);
		else if (!strcmp(argv[optind], "idle"))
			idle();
		else if (!strcmp(argv[optind], "verify"))
			verify();
		else
			usage();
	}
	putchar('\n');
	return fflush(stdout) ? 1 : 0;
}
