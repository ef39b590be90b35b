/* SPDX-License-Identifier: BSD-2-Clause */
/* The guests of the host's device tree. */
#ifndef CONFIG_HOST_TREE_H
#define CONFIG_HOST_TREE_H

#include "config/config.h"

/* As device_tree_load (config.h), but the places of devices are not resolved yet. False with findings. */
bool host_tree_join(const char *path, struct config *config, struct findings *findings);

#endif
