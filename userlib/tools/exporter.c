// SPDX-License-Identifier: Apache-2.0
/* exporter.c - mafc-exporter(8): fragmentation of heaps over HTTP */
#include "exporter.h"

#include <arpa/inet.h>
#include <getopt.h>
#include <microhttpd.h>

#define CONNS		64U	/* connections at a time, at most */
#define CONNS_KEPT	48U	/* who opens one more ends the oldest of so many */
#define CONN_IDLE	5U	/* seconds after which a silent one ends */

__asm__(".section .rodata\npage:\n.incbin \"page.html\"\n.byte 0\n.previous\n");
extern const char page[];
static bool loopback;

/* Whoever holds connections open, slowly sending, keeps nobody else out. */
static void conn_changed(void *unused, struct MHD_Connection *c, void **context,
			 enum MHD_ConnectionNotificationCode code)
{
	static int conn[CONNS_KEPT];	/* sockets, in the order of their start; 0: ended */
	static unsigned int started;
	int fd = MHD_get_connection_info(c, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
	unsigned int i;

	(void)unused, (void)context;
	if (code != MHD_CONNECTION_NOTIFY_STARTED) {
		for (i = 0; i < CONNS_KEPT; i++)
			conn[i] = conn[i] == fd ? 0 : conn[i];
		return;
	}
	i = started++ % CONNS_KEPT;
	if (conn[i])
		shutdown(conn[i], SHUT_RDWR);
	conn[i] = fd;
}

/* A name of somebody's that leads here belongs to a web site that wants to read what is local. */
static bool host_ok(struct MHD_Connection *c)
{
	const char *host = MHD_lookup_connection_value(c, MHD_HEADER_KIND, "Host");

	return !loopback || !host || !host[strspn(host, "0123456789.:")] ||
	       (!strncmp(host, "localhost", 9) && strchr(":", host[9]));
}

/* Frees @text, which may be NULL. */
static enum MHD_Result answer(struct MHD_Connection *c, unsigned int status, const char *type,
			      char *text)
{
	struct MHD_Response *r = NULL;
	enum MHD_Result ret;

	if (text)
		r = MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_MUST_FREE);
	if (!r)
		return MHD_NO;
	MHD_add_response_header(r, "Content-Type", type);
	MHD_add_response_header(r, "Connection", "close");
	MHD_add_response_header(r, "Cache-Control", "no-store");
	MHD_add_response_header(r, "X-Content-Type-Options", "nosniff");
	MHD_add_response_header(r, "Content-Security-Policy",
				"default-src 'none'; connect-src 'self'; img-src data:; "
				"script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
				"frame-ancestors 'none'");
	ret = MHD_queue_response(c, status, r);
	MHD_destroy_response(r);
	return ret;
}

static enum MHD_Result request(void *unused, struct MHD_Connection *c, const char *url,
			       const char *method, const char *version, const char *data,
			       size_t *size, void **context)
{
	const char *pid = MHD_lookup_connection_value(c, MHD_GET_ARGUMENT_KIND, "pid");
	const char *plain = "text/plain; version=0.0.4; charset=utf-8", *json = "application/json";
	bool all = !strcmp(url, "/debug/mafc");

	(void)unused, (void)version, (void)data, (void)size, (void)context;
	if (strcmp(method, "GET") && strcmp(method, "HEAD"))
		return answer(c, MHD_HTTP_NOT_IMPLEMENTED, plain, strdup("GET only\n"));
	if (!host_ok(c))
		return answer(c, MHD_HTTP_FORBIDDEN, plain, strdup("no such host here\n"));
	if (!strcmp(url, "/"))
		return answer(c, MHD_HTTP_OK, "text/html", strdup(page));
	if (!strcmp(url, "/metrics"))
		return answer(c, MHD_HTTP_OK, plain, render_metrics());
	if (all || !strcmp(url, "/debug/fragmentation"))
		return answer(c, MHD_HTTP_OK, json, render_json(all, pid ? atoi(pid) : 0));
	return answer(c, MHD_HTTP_NOT_FOUND, plain,
		      strdup("/, /metrics, /debug/mafc, /debug/fragmentation\n"));
}

static struct MHD_Daemon *start(const char *listen)
{
	struct sockaddr_in sin = { .sin_family = AF_INET };
	unsigned short port;
	char host[16] = "0.0.0.0";

	if ((sscanf(listen, ":%hu", &port) != 1 &&
	     sscanf(listen, "%15[0-9.]:%hu", host, &port) != 2) ||
	    inet_pton(AF_INET, host, &sin.sin_addr) != 1)
		return NULL;
	sin.sin_port = htons(port);
	loopback = !strncmp(host, "127.", 4);
	return MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_AUTO, 0, NULL, NULL,
				request, NULL, MHD_OPTION_SOCK_ADDR, &sin,
				MHD_OPTION_CONNECTION_LIMIT, CONNS,
				MHD_OPTION_CONNECTION_TIMEOUT, CONN_IDLE,
				MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)16384,
				MHD_OPTION_NOTIFY_CONNECTION, conn_changed, NULL, MHD_OPTION_END);
}

static const char usage[] =
	"usage: mafc-exporter [--listen ADDRESS:PORT] [--top N] [--slo PERCENT]\n"
	"  --listen  where (127.0.0.1:9464); :PORT is on all addresses\n"
	"  --top     processes that have figures of their own (20, at most %d)\n"
	"  --slo     fragmentation that is within the objective (15)\n";

int main(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "listen", 1, NULL, 'l' }, { "top", 1, NULL, 't' }, { "slo", 1, NULL, 's' },
		{ "help", 0, NULL, 'h' }, { 0 },
	};
	const char *listen = "127.0.0.1:9464";
	struct MHD_Daemon *d;
	pthread_t collector;
	sigset_t ends;
	int c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (c == 'l') {
			listen = optarg;
		} else if (c == 't' && atoi(optarg) >= 0 && atoi(optarg) <= TOP_MAX) {
			known.top = atoi(optarg);
		} else if (c == 's' && atoi(optarg) > 0 && atoi(optarg) <= 100) {
			known.slo = atoi(optarg);
		} else {
			fprintf(stderr, usage, TOP_MAX);
			return c == 'h' ? 0 : 2;
		}
	}
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&ends);
	sigaddset(&ends, SIGTERM);
	sigaddset(&ends, SIGINT);
	pthread_sigmask(SIG_BLOCK, &ends, NULL);
	d = start(listen);
	if (!d || pthread_create(&collector, NULL, collect, NULL))
		errx(1, "cannot listen on %s", listen);
	sigwait(&ends, &c);
	MHD_stop_daemon(d);
	return 0;
}
