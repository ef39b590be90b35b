/* SPDX-License-Identifier: BSD-2-Clause */
/* What guest_mock.c and mock_only.c share. */
#ifndef CONFORMANCE_MOCK_H
#define CONFORMANCE_MOCK_H

struct context;
struct mock;
struct mock_guest;

/* The mock and the guest that mock_prepare() made; owned by it. */
struct mock *mock_player_mock(struct context *);
struct mock_guest *mock_player_guest(struct context *);

#endif
