/* SPDX-License-Identifier: Apache-2.0 */
/*
 * probe.h - places where perf, bpftrace and SystemTap can hook in
 *
 * A probe is one nop in the code, and a note in the file that says where it is
 * and where its arguments are.  Needs sys/sdt.h when the library is built.
 */
#ifndef MAFC_PROBE_H
#define MAFC_PROBE_H

#if __has_include(<sys/sdt.h>)
#include <sys/sdt.h>
#define probe(name, a, b) DTRACE_PROBE2(mafc, name, a, b)
#else
#define probe(name, a, b) do { } while (0)
#endif

#endif
