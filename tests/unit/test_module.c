/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <stddef.h>
#include <unistd.h>

#include "core/module.h"

#include "unit.h"

static int create(struct iod_device *device, struct iod_error *error)
{
    return 0;
}

static const struct iod_device_class lamp = {
    .size = sizeof(lamp),
    .name = "lamp",
    .summary = "A lamp",
    .version = 1,
    .create = create,
};
static const struct iod_device_class fan = {
    .size = sizeof(fan),
    .name = "fan",
    .summary = "A fan",
    .version = 1,
    .create = create,
};

/* Adds a module of one or two devices. */
static int add(struct modules *modules, const struct iod_device_class *one,
               const struct iod_device_class *two, struct iod_error *error)
{
    const struct iod_device_class *const devices[] = {one, two, NULL};
    struct iod_module module = {.size = sizeof(module), .abi = IOD_ABI, .devices = devices};
    return modules_add(modules, &module, "test", error);
}

START_TEST(finds_what_was_added)
{
    struct modules *modules = modules_create();
    struct iod_error error = {0};
    ck_assert_int_eq(add(modules, &lamp, &fan, &error), 0);
    ck_assert_ptr_eq(modules_device(modules, "lamp", &error), &lamp);
    ck_assert_ptr_eq(modules_device(modules, "fan", &error), &fan);
    ck_assert_ptr_null(modules_device(modules, "lam", &error));
    ck_assert_int_eq(error.code, ENOENT);
    ck_assert_str_eq(error.text, "no device 'lam'; there are: lamp, fan");
    ck_assert_ptr_null(modules_block(modules, "lamp", &error));
    ck_says(error, "there are: none");
    modules_destroy(modules);
    modules_destroy(NULL);
}
END_TEST

START_TEST(all_of_a_module_or_nothing)
{
    struct modules *modules = modules_create();
    struct iod_error error = {0};
    ck_assert_int_eq(add(modules, &lamp, NULL, &error), 0);
    ck_assert_int_eq(add(modules, &fan, &lamp, &error), -EEXIST);
    ck_says(error, "there is a device 'lamp' already");
    ck_assert_ptr_null(modules_device(modules, "fan", &error));
    ck_assert_int_eq(add(modules, &fan, NULL, &error), 0);
    modules_destroy(modules);
}
END_TEST

static bool valid(const void *regs)
{
    return true;
}

START_TEST(refuses_bad_tables)
{
    static const struct iod_field outside[] = {{.name = "f", .since = 1, .offset = 2, .width = 4, .count = 1},
                                               {.name = NULL}};
    static const struct iod_field newer[] = {
        {.name = "f", .since = 2, .width = 1, .count = 1, .valid = valid}, {.name = NULL}};
    static const struct iod_field twice[] = {{.name = "f", .since = 1, .width = 1, .count = 1},
                                             {.name = "f", .since = 1, .width = 1, .count = 1},
                                             {.name = NULL}};
    static const struct iod_counter beyond[] = {{"seen", 8}, {.name = NULL}};
    static const struct iod_counter crooked[] = {{"seen", 12}, {.name = NULL}};
    static const struct iod_counter nameless[] = {{"Seen", 8}, {.name = NULL}};
    static const struct iod_option irq[] = {{.name = "irq"}, {.name = NULL}};
    const struct {
        struct iod_device_class class;
        const char *says;
    } bad[] = {
        {{.size = offsetof(struct iod_device_class, destroy), .name = "d", .create = create},
         "bytes; expected at least"},
        {{.size = sizeof(lamp), .name = "d"}, "lacks its name or create"},
        {{.size = sizeof(lamp), .create = create}, "lacks its name or create"},
        {{.size = sizeof(lamp), .name = "d,e", .create = create}, "is no name"},
        {{.size = sizeof(lamp), .name = "", .create = create}, "is no name"},
        {{.size = sizeof(lamp), .name = "d", .create = create, .regs_size = 4}, "no fields"},
        {{.size = sizeof(lamp),
          .name = "d",
          .create = create,
          .regs_size = 4,
          .version = 1,
          .fields = outside},
         "outside of regs"},
        {{.size = sizeof(lamp), .name = "d", .create = create, .regs_size = 4, .version = 1, .fields = newer},
         "expected 1 to 1"},
        {{.size = sizeof(lamp), .name = "d", .create = create, .regs_size = 4, .version = 1, .fields = twice},
         "occurs twice"},
        {{.size = sizeof(lamp), .name = "d", .create = create, .options = irq}, "belongs to the core"},
        {{.size = sizeof(lamp), .name = "d", .create = create, .self_size = 12, .counters = beyond},
         "counter 'seen' lies outside of self"},
        {{.size = sizeof(lamp), .name = "d", .create = create, .self_size = 99, .counters = crooked},
         "counter 'seen' lies outside of self"},
        {{.size = sizeof(lamp), .name = "d", .create = create, .self_size = 99, .counters = nameless},
         "'Seen' is no name for a counter"},
    };
    struct modules *modules = modules_create();
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct iod_error error = {0};
        ck_assert_msg(add(modules, &bad[i].class, NULL, &error) == -EINVAL, "case %u", i);
        ck_says(error, bad[i].says);
        ck_assert_ptr_null(modules_device(modules, "d", NULL));
    }
    modules_destroy(modules);
}
END_TEST

START_TEST(refuses_another_abi)
{
    struct modules *modules = modules_create();
    struct iod_error error = {0};
    struct iod_module module = {.size = sizeof(module), .abi = IOD_ABI + 1};
    ck_assert_int_eq(modules_add(modules, &module, "new.so", &error), -EINVAL);
    ck_says(error, "new.so: built for module ABI 2; this ioreqd has 1");
    module = (struct iod_module){.size = 8, .abi = IOD_ABI};
    ck_assert_int_eq(modules_add(modules, &module, "old.so", &error), -EINVAL);
    module = (struct iod_module){.size = 16, .abi = IOD_ABI};
    ck_assert_int_eq(modules_add(modules, &module, "old.so", &error), -EINVAL);
    ck_says(error, "table has 16 bytes");
    modules_destroy(modules);
}
END_TEST

START_TEST(required_callbacks_of_backends)
{
    struct modules *modules = modules_create();
    struct iod_error error = {0};
    static const struct iod_block_class block = {.size = sizeof(block), .name = "b"};
    static const struct iod_chardev_class chardev = {.size = sizeof(chardev), .name = "c"};
    static const struct iod_netdev_class netdev = {.size = sizeof(netdev), .name = "n"};
    static const struct iod_netdev_class *const netdevs[] = {&netdev, NULL};
    static const struct iod_block_class *const blocks[] = {&block, NULL};
    static const struct iod_chardev_class *const chardevs[] = {&chardev, NULL};
    struct iod_module module = {.size = sizeof(module), .abi = IOD_ABI, .blocks = blocks};
    ck_assert_int_eq(modules_add(modules, &module, "m", &error), -EINVAL);
    ck_says(error, "block backend 'b' lacks its name, open or submit");
    module = (struct iod_module){.size = sizeof(module), .abi = IOD_ABI, .chardevs = chardevs};
    ck_assert_int_eq(modules_add(modules, &module, "m", &error), -EINVAL);
    ck_says(error, "character backend 'c' lacks its name, open or write");
    module = (struct iod_module){.size = sizeof(module), .abi = IOD_ABI, .netdevs = netdevs};
    ck_assert_int_eq(modules_add(modules, &module, "m", &error), -EINVAL);
    ck_says(error, "network backend 'n' lacks its name, open, send or receive_again");
    /* A module that was built before there were any: what lies behind its table is not looked at. */
    module.size = offsetof(struct iod_module, netdevs);
    ck_assert_int_eq(modules_add(modules, &module, "m", &error), 0);
    modules_destroy(modules);
}
END_TEST

START_TEST(loads_a_shared_object)
{
    struct modules *modules = modules_create();
    struct iod_error error = {0};
    ck_assert_msg(modules_load(modules, MODULE_EXAMPLE, &error) == 0, "%s", error.text);
    const struct iod_device_class *class = modules_device(modules, "example-lamp", &error);
    ck_assert_ptr_nonnull(class);
    ck_assert_int_eq(class->create(NULL, &error), -ENODEV);
    ck_assert_str_eq(error.text, "example: no hardware");
    ck_assert_ptr_nonnull(modules_block(modules, "example-slow", NULL));
    ck_assert_ptr_nonnull(modules_chardev(modules, "example-hole", NULL));
    ck_assert_int_eq(modules_load(modules, MODULE_EXAMPLE, &error), -EEXIST);
    modules_destroy(modules);
}
END_TEST

START_TEST(load_errors_name_the_file)
{
    struct modules *modules = modules_create();
    struct iod_error error = {0};
    ck_assert_int_eq(modules_load(modules, "/nowhere/lamp.so", &error), -ENOEXEC);
    ck_says(error, "module '/nowhere/lamp.so'");
    ck_assert_int_eq(modules_load(modules, "lamp.so", &error), -ENOEXEC);
    ck_says(error, "./lamp.so");
    ck_assert_int_eq(modules_load(modules, "lamp", &error), -ENOEXEC); /* an installed one */
    ck_says(error, "/lib/ioreqd/modules/lamp.so");
    ck_assert_int_eq(modules_load(modules, "/etc/passwd", &error), -EINVAL);
    ck_says(error, "expected a file NAME.so");
    ck_assert_int_eq(modules_load(modules, ".so", &error), -EINVAL);
    char link[] = "/tmp/unit-module-XXXXXX";
    ck_assert_ptr_nonnull(mkdtemp(link));
    char other[64];
    snprintf(other, sizeof(other), "%s/libother-name.so", link);
    ck_assert_int_eq(symlink(MODULE_EXAMPLE, other), 0);
    int result = modules_load(modules, other, &error);
    unlink(other);
    rmdir(link);
    ck_assert_int_eq(result, -ENOEXEC);
    ck_says(error, "has no symbol iod_module_other_name");
    modules_destroy(modules);
}
END_TEST

START_TEST(lists_and_helps)
{
    struct modules *modules = modules_create();
    struct iod_error error = {0};
    char *text;
    size_t length;
    FILE *to = open_memstream(&text, &length);
    ck_assert_int_eq(modules_load(modules, MODULE_EXAMPLE, &error), 0);
    modules_list(modules, to);
    ck_assert_int_eq(modules_help(modules, "example-lamp", to, &error), 0);
    ck_assert_int_eq(modules_help(modules, "lamp", to, &error), -ENOENT);
    fclose(to);
    ck_assert_ptr_nonnull(strstr(text, "  example-lamp         A lamp\n"));
    ck_assert_ptr_nonnull(strstr(text, "Block filters (block.filter=NAME):\n  example-slow"));
    ck_assert_ptr_null(strstr(text, "Block backends"));
    ck_assert_ptr_nonnull(strstr(text, "example-lamp: A lamp\n  colour=TEXT"));
    ck_assert_ptr_nonnull(strstr(text, "of the lamp (default: blue)\n"));
    ck_assert_ptr_nonnull(strstr(text, "irq=NUMBER|none"));
    ck_assert_ptr_nonnull(
        strstr(text, "With block.filter=example-slow (A slow filter):\n  block.filter.delay=NUMBER"));
    free(text);
    modules_destroy(modules);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("module");
    TCase *tests = tcase_create("module");
    tcase_add_test(tests, finds_what_was_added);
    tcase_add_test(tests, all_of_a_module_or_nothing);
    tcase_add_test(tests, refuses_bad_tables);
    tcase_add_test(tests, refuses_another_abi);
    tcase_add_test(tests, required_callbacks_of_backends);
    tcase_add_test(tests, loads_a_shared_object);
    tcase_add_test(tests, load_errors_name_the_file);
    tcase_add_test(tests, lists_and_helps);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
