// SPDX-License-Identifier: GPL-2.0-only
// For snmalloc's tests: what its test library offers, on the malloc of the process. Some tests bring a calloc
// and a free of their own that call these functions: hence the names that nobody replaces.
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <malloc.h>
#include <snmalloc/snmalloc_core.h>
#include <test/snmalloc_testlib_decl.h>

extern "C"
{
  void* __libc_calloc(size_t n, size_t size);
  void __libc_free(void* p);
}

namespace snmalloc
{
  template<ZeroMem zero>
  void* alloc(size_t size)
  {
    return zero == ZeroMem::YesZero ? __libc_calloc(1, size) : malloc(size);
  }
  template void* alloc<ZeroMem::YesZero>(size_t size);
  template void* alloc<ZeroMem::NoZero>(size_t size);

  void dealloc(void* p)
  {
    __libc_free(p);
  }

  void dealloc(void* p, size_t size)
  {
    if (malloc_usable_size(p) < size)
      abort();
    __libc_free(p);
  }

  bool is_owned(void* p)
  {
    return malloc_usable_size(p) > 0;
  }

  size_t max_small_sizeclass_bits()
  {
    return MAX_SMALL_SIZECLASS_BITS;
  }

  void debug_teardown() {}
  void debug_in_use(size_t) {}
  void debug_check_empty(bool*) {}

  // A handle on a thread's allocator: here there is one for all.
  ScopedAllocHandle::ScopedAllocHandle() : ptr(nullptr) {}
  ScopedAllocHandle::~ScopedAllocHandle() {}
  ScopedAllocHandle get_scoped_allocator()
  {
    return {};
  }
  ScopedAllocHandle* ScopedAllocHandle::operator->()
  {
    return this;
  }
  void* ScopedAllocHandle::alloc(size_t size)
  {
    return snmalloc::alloc<ZeroMem::NoZero>(size);
  }
  void ScopedAllocHandle::dealloc(void* p)
  {
    snmalloc::dealloc(p);
  }

  namespace libc
  {
    void* calloc(size_t n, size_t size)
    {
      return __libc_calloc(n, size);
    }
    void free(void* p)
    {
      __libc_free(p);
    }
  }
}

extern "C"
{
  void* testlib_malloc(size_t size)
  {
    return malloc(size);
  }
  void testlib_free(void* p)
  {
    free(p);
  }
  void* testlib_calloc(size_t n, size_t size)
  {
    return calloc(n, size);
  }
  void* testlib_realloc(void* p, size_t size)
  {
    return realloc(p, size);
  }
  void* testlib_reallocarray(void* p, size_t n, size_t size)
  {
    return reallocarray(p, n, size);
  }
  void* testlib_memalign(size_t align, size_t size)
  {
    return memalign(align, size);
  }
  void* testlib_aligned_alloc(size_t align, size_t size)
  {
    return aligned_alloc(align, size);
  }
  int testlib_posix_memalign(void** p, size_t align, size_t size)
  {
    return posix_memalign(p, align, size);
  }
  size_t testlib_malloc_usable_size(void* p)
  {
    return malloc_usable_size(p);
  }
  size_t testlib_malloc_good_size(size_t size)
  {
    return size;
  }
  // NetBSD's, on top of realloc. As there, 0 bytes free the block and clear the pointer.
  int testlib_reallocarr(void* at, size_t n, size_t size)
  {
    void** p = static_cast<void**>(at);
    size_t bytes;
    int saved = errno;
    void* q;

    if (__builtin_mul_overflow(n, size, &bytes))
      return EOVERFLOW;
    q = realloc(*p, bytes);
    if (!q && bytes)
    {
      errno = saved;
      return ENOMEM;
    }
    *p = q;
    return 0;
  }
}
