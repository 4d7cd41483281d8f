/* SPDX-License-Identifier: GPL-2.0-only */
/* For mimalloc's tests. Its own limit is 16 MiB; ours are 1 TiB. */
#define MI_ALIGNMENT_MAX ((size_t)16 << 20)
