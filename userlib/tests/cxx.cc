// SPDX-License-Identifier: Apache-2.0
/* cxx.cc - operator new and delete; run preloaded */
#include <cstdint>
#include <cstring>
#include <malloc.h>
#include <map>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "ktap.h"

static bool containers(void)
{
	std::map<std::string, std::vector<int>> m;

	for (int i = 0; i < 20000; i++)
		m[std::to_string(i % 1000)].push_back(i);
	for (auto &e : m)
		CHECK(e.second.size() == 20);
	return true;
}

static volatile size_t vast = SIZE_MAX / 2;

static bool bad_alloc(void)
{
	bool caught = false;

	try {
		operator delete(operator new(vast));
	} catch (const std::bad_alloc &) {
		caught = true;
	}
	CHECK(caught);
	CHECK(!operator new(vast, std::nothrow));
	CHECK(!operator new[](vast, std::align_val_t(64), std::nothrow));
	return true;
}

static int asked;

static void handler()
{
	if (++asked == 3)
		std::set_new_handler(nullptr);
}

static bool new_handler(void)
{
	std::set_new_handler(handler);
	CHECK(!operator new(vast, std::nothrow));
	CHECK(asked == 3);
	return true;
}

static void throwing_handler()
{
	asked++;
	throw std::bad_alloc();
}

/* The nothrow forms return NULL also when it is the handler that throws. */
static bool handler_throws(void)
{
	const auto a = std::align_val_t(64);
	bool caught = false;

	asked = 0;
	std::set_new_handler(throwing_handler);
	CHECK(!operator new(vast, std::nothrow));
	CHECK(!operator new[](vast, std::nothrow));
	CHECK(!operator new(vast, a, std::nothrow));
	CHECK(!operator new[](vast, a, std::nothrow));
	try {
		operator delete[](operator new[](vast, a), a);
	} catch (const std::bad_alloc &) {
		caught = true;
	}
	std::set_new_handler(nullptr);
	CHECK(caught && asked == 5);
	return true;
}

/* Is the block the library's own, as large as asked for, and aligned? */
static bool good(void *p, size_t n, size_t align)
{
	CHECK(p && malloc_usable_size(p) >= n && (uintptr_t)p % align == 0);
	memset(p, 0x5a, n);
	return true;
}

static bool every_form(void)
{
	const size_t sizes[] = { 0, 1, 100, 5000, 20000, 300000 };
	const auto a = std::align_val_t(128);
	void *p;

	for (size_t n : sizes) {
		CHECK(good(p = operator new(n), n, 16));
		operator delete(p);
		CHECK(good(p = operator new(n), n, 16));
		operator delete(p, n);
		CHECK(good(p = operator new[](n), n, 16));
		operator delete[](p);
		CHECK(good(p = operator new[](n), n, 16));
		operator delete[](p, n);
		CHECK(good(p = operator new(n, std::nothrow), n, 16));
		operator delete(p, std::nothrow);
		CHECK(good(p = operator new[](n, std::nothrow), n, 16));
		operator delete[](p, std::nothrow);
		CHECK(good(p = operator new(n, a), n, 128));
		operator delete(p, a);
		CHECK(good(p = operator new(n, a), n, 128));
		operator delete(p, n, a);
		CHECK(good(p = operator new[](n, a), n, 128));
		operator delete[](p, a);
		CHECK(good(p = operator new[](n, a), n, 128));
		operator delete[](p, n, a);
		CHECK(good(p = operator new(n, a, std::nothrow), n, 128));
		operator delete(p, a, std::nothrow);
		CHECK(good(p = operator new[](n, a, std::nothrow), n, 128));
		operator delete[](p, a, std::nothrow);
	}
	operator delete(nullptr);
	operator delete[](nullptr, size_t(8));
	return true;
}

struct alignas(256) wide {
	char c[300];
};

static bool aligned(void)
{
	for (int i = 0; i < 100; i++) {
		wide *w = new wide, *v = new wide[3];

		CHECK((uintptr_t)w % 256 == 0 && (uintptr_t)v % 256 == 0);
		delete w;
		delete[] v;
	}
	return true;
}

struct at_exit {
	std::string s;
	~at_exit() { s.append(1000, 'x'); }
};

static bool thread_locals(void)
{
	static thread_local at_exit mine;

	for (int i = 0; i < 50; i++)
		std::thread([] { mine.s = std::string(500, 'y'); }).join();
	return true;
}

static const struct ktap_test tests[] = {
	{ "containers", containers },
	{ "bad_alloc, nothrow", bad_alloc },
	{ "new_handler", new_handler },
	{ "new_handler that throws", handler_throws },
	{ "every form of new and delete", every_form },
	{ "aligned types", aligned },
	{ "thread_local destructors", thread_locals },
};
KTAP_MAIN(tests)
