/* SPDX-License-Identifier: GPL-2.0-only */
/* trace.h - the module's tracepoints */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM mafc

#if !defined(MAFC_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define MAFC_TRACE_H
#include <linux/tracepoint.h>

TRACE_EVENT(mafc_fault,
	TP_PROTO(u32 slot, bool write, unsigned int mapped), TP_ARGS(slot, write, mapped),
	TP_STRUCT__entry(__field(u32, slot) __field(bool, write) __field(unsigned int, mapped)),
	TP_fast_assign(__entry->slot = slot; __entry->write = write; __entry->mapped = mapped;),
	TP_printk("region=%u page=%u write=%d mapped=%u", __entry->slot >> 30,
		  __entry->slot & 0x3fffffff, __entry->write, __entry->mapped)
);

TRACE_EVENT(mafc_chunk,
	TP_PROTO(unsigned int order, unsigned int gone, bool taken), TP_ARGS(order, gone, taken),
	TP_STRUCT__entry(__field(unsigned int, order) __field(unsigned int, gone)
			 __field(bool, taken)),
	TP_fast_assign(__entry->order = order; __entry->gone = gone; __entry->taken = taken;),
	TP_printk("%s order=%u gone=%u", __entry->taken ? "take" : "return",
		  __entry->order, __entry->gone)
);

/* A page in motion: why, which, for how long, and what came of it. */
DECLARE_EVENT_CLASS(mafc_motion,
	TP_PROTO(u32 slot, u32 target, int result), TP_ARGS(slot, target, result),
	TP_STRUCT__entry(__field(u32, slot) __field(u32, target) __field(int, result)),
	TP_fast_assign(__entry->slot = slot; __entry->target = target; __entry->result = result;),
	TP_printk("region=%u page=%u target=%u result=%d", __entry->slot >> 30,
		  __entry->slot & 0x3fffffff, __entry->target & 0x3fffffff, __entry->result)
);

#define MAFC_MOTION_EVENT(name)						\
	DEFINE_EVENT(mafc_motion, name, TP_PROTO(u32 slot, u32 target, int result), \
		     TP_ARGS(slot, target, result))
MAFC_MOTION_EVENT(mafc_mesh);
MAFC_MOTION_EVENT(mafc_move);
MAFC_MOTION_EVENT(mafc_drop);

TRACE_EVENT(mafc_wait,
	TP_PROTO(u64 ns), TP_ARGS(ns),
	TP_STRUCT__entry(__field(u64, ns)), TP_fast_assign(__entry->ns = ns;),
	TP_printk("ns=%llu", __entry->ns)
);

/* What the model was told of a heap, and what it expects; pages=0: no counters. */
TRACE_EVENT(mafc_predict,
	TP_PROTO(pid_t pid, const struct mafc_pfm_sample *s, const struct mafc_pfm_forecast *f),
	TP_ARGS(pid, s, f),
	TP_STRUCT__entry(__field(pid_t, pid) __field(u32, state) __field(u32, frag)
			 __field(u32, entropy) __field(u32, free_rate) __field(u64, pages)
			 __field(u32, high_ppm) __field(u32, steps)),
	TP_fast_assign(
		__entry->pid = pid; __entry->state = f->state; __entry->frag = s->frag;
		__entry->entropy = s->entropy_q16; __entry->free_rate = s->free_rate_q16;
		__entry->pages = s->heap_pages; __entry->high_ppm = f->high_ppm;
		__entry->steps = f->steps;
	),
	TP_printk("pid=%d state=%u fragmentation=%u entropy=%u free_rate=%u pages=%llu high_ppm=%u steps=%u",
		  __entry->pid, __entry->state, __entry->frag, __entry->entropy, __entry->free_rate,
		  __entry->pages, __entry->high_ppm, __entry->steps)
);
#endif /* MAFC_TRACE_H */
#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
