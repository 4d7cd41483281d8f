/* SPDX-License-Identifier: Apache-2.0 */
/* probe.h - where perf and bpftrace can hook in: a nop, and a note about it */
#ifndef MAFC_PROBE_H
#define MAFC_PROBE_H

#if __has_include(<sys/sdt.h>)
#include <sys/sdt.h>
#define probe(name, a, b) DTRACE_PROBE2(mafc, name, a, b)
#else
#define probe(name, a, b) do { } while (0)
#endif

#endif
