// SPDX-License-Identifier: GPL-2.0-only
// For snmalloc's tests: in place of its allocator. Whether a thread's own caches went with it cannot be asked
// here; that nothing crashed and all memory is back is what is left of that.
#pragma once
#include <test/snmalloc_testlib.h>

namespace snmalloc
{
  struct Config
  {};

  template<typename>
  struct AllocPool
  {
    static void* extract()
    {
      static char one;
      return &one;
    }
  };
}
