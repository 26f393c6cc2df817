/* Lets Icarus Verilog, which has no DPI, call the library: one system task per function, with the
   same arguments in the same order.  Argument handles are looked up once per call site. */
#include <stdio.h>
#include <stdlib.h>
#include <vpi_user.h>

#include "fastmem.h"

enum { ARGS = 7 };
typedef uint32_t words_t[FM_PAYLOAD_WORDS];
typedef struct {
    vpiHandle handle[ARGS];
    int width[ARGS];
} site_t;

static PLI_INT32 bind(PLI_BYTE8 *name)
{
    (void)name;
    vpiHandle call = vpi_handle(vpiSysTfCall, NULL);
    vpiHandle arg, args = vpi_iterate(vpiArgument, call);
    site_t *site = calloc(1, sizeof *site);
    for (int i = 0; i < ARGS && args && (arg = vpi_scan(args)); i++) {
        site->handle[i] = arg;
        site->width[i] = vpi_get(vpiSize, arg);
    }
    vpi_put_userdata(call, site);
    return 0;
}

static site_t *here(void) { return vpi_get_userdata(vpi_handle(vpiSysTfCall, NULL)); }

static uint64_t scalar(site_t *site, int index);

static uint64_t get(site_t *site, int index, uint32_t *words)
{
    s_vpi_value value = {.format = vpiVectorVal};
    vpi_get_value(site->handle[index], &value);
    for (int i = 0; i * 32 < site->width[index]; i++) {
        if (value.value.vector[i].bval) {
            vpi_printf("fastmem: X or Z in argument %d at line %d\n", index,
                       (int)vpi_get(vpiLineNo, vpi_handle(vpiSysTfCall, NULL)));
            if (index)
                vpi_printf("fastmem: the port is %d, bit %d of the payload is unknown\n",
                           (int)scalar(site, index - 1), 32 * i);
            vpi_control(vpiFinish, 1);
        }
        words[i] = (uint32_t)value.value.vector[i].aval;
    }
    return site->width[index] > 32 ? (uint64_t)words[1] << 32 | words[0] : words[0];
}

static uint64_t scalar(site_t *site, int index)
{
    words_t words;
    return get(site, index, words);
}

static void put(site_t *site, int index, const uint32_t *words)
{
    s_vpi_vecval vector[FM_PAYLOAD_WORDS] = {{0}};
    s_vpi_value value = {.format = vpiVectorVal, .value.vector = vector};
    for (int i = 0; i * 32 < site->width[index]; i++)
        vector[i].aval = (PLI_INT32)words[i];
    vpi_put_value(site->handle[index], &value, NULL, vpiNoDelay);
}

static PLI_INT32 call_tick(PLI_BYTE8 *unused)
{
    (void)unused;
    site_t *s = here();
    uint64_t masks[3];
    uint32_t notify;
    fm_tick(scalar(s, 0), &masks[0], &masks[1], &masks[2], &notify);
    for (int i = 0; i < 3; i++) {
        uint32_t words[2] = {(uint32_t)masks[i], (uint32_t)(masks[i] >> 32)};
        put(s, 1 + i, words);
    }
    put(s, 4, &notify);
    return 0;
}

static PLI_INT32 call_pop(PLI_BYTE8 *unused)
{
    (void)unused;
    site_t *s = here();
    words_t payload = {0};
    uint32_t valid;
    fm_pop((uint32_t)scalar(s, 0), &valid, payload);
    put(s, 1, &valid);
    if (valid)
        put(s, 2, payload);
    return 0;
}

static PLI_INT32 call_push(PLI_BYTE8 *unused)
{
    (void)unused;
    site_t *s = here();
    words_t payload;
    uint32_t notify;
    uint64_t cycle = scalar(s, 0), port = scalar(s, 1);
    get(s, 2, payload);
    fm_push(cycle, (uint32_t)port, payload, &notify);
    put(s, 3, &notify);
    return 0;
}

static PLI_INT32 call_address(PLI_BYTE8 *unused)
{
    (void)unused;
    site_t *s = here();
    uint32_t notify;
    fm_address(scalar(s, 0), (uint32_t)scalar(s, 1), (uint32_t)scalar(s, 2), scalar(s, 3),
               (uint32_t)scalar(s, 4), scalar(s, 5), &notify);
    put(s, 6, &notify);
    return 0;
}

static PLI_INT32 call_read_beat(PLI_BYTE8 *unused)
{
    (void)unused;
    site_t *s = here();
    words_t data = {0};
    uint32_t info;
    fm_read_beat(scalar(s, 0), (uint32_t)scalar(s, 1), &info, data);
    put(s, 2, &info);
    if (info)
        put(s, 3, data);
    return 0;
}

static PLI_INT32 call_write_beat(PLI_BYTE8 *unused)
{
    (void)unused;
    site_t *s = here();
    words_t data;
    uint32_t notify;
    uint64_t cycle = scalar(s, 0), m = scalar(s, 1), strb = scalar(s, 2);
    get(s, 3, data);
    fm_write_beat(cycle, (uint32_t)m, (uint32_t)strb, data, &notify);
    put(s, 4, &notify);
    return 0;
}

static PLI_INT32 call_write_response(PLI_BYTE8 *unused)
{
    (void)unused;
    site_t *s = here();
    uint32_t info;
    fm_write_response(scalar(s, 0), (uint32_t)scalar(s, 1), &info);
    put(s, 2, &info);
    return 0;
}

static void add(char *name, PLI_INT32 (*call)(PLI_BYTE8 *))
{
    s_vpi_systf_data task = {.type = vpiSysTask, .tfname = name, .calltf = call,
                             .compiletf = bind};
    vpi_register_systf(&task);
}

static void start(void)
{
    add("$fm_tick", call_tick);
    add("$fm_pop", call_pop);
    add("$fm_push", call_push);
    add("$fm_address", call_address);
    add("$fm_read_beat", call_read_beat);
    add("$fm_write_beat", call_write_beat);
    add("$fm_write_response", call_write_response);
}

void (*vlog_startup_routines[])(void) = {start, NULL};
