// SPDX-License-Identifier: GPL-2.0-only
// For snmalloc's tests: operator new is the preloaded library's.
#pragma once
#include <new>
#include <test/snmalloc_testlib.h>
#define EXCEPTSPEC noexcept
