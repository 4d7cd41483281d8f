// SPDX-License-Identifier: Apache-2.0
/* late.cc - a module in C++ for a program in C: start.c */
#include <cstdint>
#include <new>

static volatile std::size_t vast = SIZE_MAX / 2;
static int asked;

static void handler()
{
	asked++;
	std::set_new_handler(nullptr);
}

extern "C" int throws_bad_alloc()
{
	std::set_new_handler(handler);
	try {
		operator delete(operator new(vast));
	} catch (const std::bad_alloc &) {
		return asked;
	}
	return -1;
}
