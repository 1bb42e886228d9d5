/* The instruction counter of `cargo xtask bench --cpu`: a plugin of qemu-aarch64 (user mode, 7.2 or newer).
 *
 * Counts executed AArch64 instructions by opcode form and by function, can model two cache levels, and can tell what
 * happened between the program's readings of the clock. It declares the small part of the plugin interface that it
 * uses, so that no emulator source is needed to build it:
 *
 *   cc -O2 -shared -fPIC -o armcount.so armcount.c
 *   qemu-aarch64 -cpu cortex-a72 -plugin ./armcount.so,out=counts.tsv ./program
 *
 *   out=PATH             where the counts go, "armcount.tsv" without it
 *   l1=KIB:WAYS,l2=...   models the data caches, about 3 times slower
 *   laps=PATH            what happened between two calls of clock_gettime
 *
 * Output, three columns with tabs: "form NAME COUNT", "func NAME COUNT", "cache EVENT LINES"; laps have the lap's
 * number before them. host/src/boards/counts.rs reads both. Counts of one thread are exact and repeat to the
 * instruction; counters of several threads are not atomic, so run the program with one thread. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <stdbool.h>
#include <ctype.h>

typedef uint64_t qemu_plugin_id_t;
typedef struct qemu_info_t qemu_info_t;
struct qemu_plugin_tb; struct qemu_plugin_insn;
enum qemu_plugin_op { QEMU_PLUGIN_INLINE_ADD_U64 };
typedef void (*tb_trans_cb)(qemu_plugin_id_t, struct qemu_plugin_tb *);
typedef void (*udata_cb)(qemu_plugin_id_t, void *);
extern void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, tb_trans_cb);
extern void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, enum qemu_plugin_op, void *, uint64_t);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
extern struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
extern const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);
extern char *qemu_plugin_insn_disas(const struct qemu_plugin_insn *);
extern const char *qemu_plugin_insn_symbol(const struct qemu_plugin_insn *);
extern void qemu_plugin_register_atexit_cb(qemu_plugin_id_t, udata_cb, void *);
typedef void (*syscall_cb)(qemu_plugin_id_t, unsigned, int64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t,
                           uint64_t, uint64_t);
extern void qemu_plugin_register_vcpu_syscall_cb(qemu_plugin_id_t, syscall_cb);

typedef uint32_t qemu_plugin_meminfo_t;
typedef void (*mem_cb)(unsigned, qemu_plugin_meminfo_t, uint64_t, void *);
enum { CB_NO_REGS = 0, MEM_R = 1, MEM_W = 2, MEM_RW = 3 };
extern void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *, mem_cb, int, int, void *);
extern unsigned qemu_plugin_mem_size_shift(qemu_plugin_meminfo_t);
extern bool qemu_plugin_mem_is_store(qemu_plugin_meminfo_t);

__attribute__((visibility("default"))) int qemu_plugin_version = 1;

/* Optional data-cache model: two levels, 64-byte lines, LRU, write-back and
 * write-allocate, no prefetcher. l1=KIB:WAYS,l2=KIB:WAYS switch it on. */
typedef struct { uint64_t *tag; uint8_t *dirty; uint32_t sets, ways; uint64_t hit, miss, wb; } Cache;
static Cache l1, l2;
static int caching;
static void cache_init(Cache *c, uint64_t kib, uint32_t ways) {
  c->ways = ways; c->sets = kib * 1024 / 64 / ways;
  c->tag = calloc((size_t)c->sets * ways, 8); c->dirty = calloc((size_t)c->sets * ways, 1);
}
/* Returns 1 on a hit; on a miss *victim is the dirty line thrown out, or 0. */
static int cache_touch(Cache *c, uint64_t line, int write, uint64_t *victim) {
  uint32_t set = line % c->sets; uint64_t *t = c->tag + (size_t)set * c->ways; uint8_t *d = c->dirty + (size_t)set * c->ways;
  uint64_t key = line + 1; *victim = 0;
  for (uint32_t i = 0; i < c->ways; i++) if (t[i] == key) {
    uint8_t k = d[i]; for (; i; i--) { t[i] = t[i - 1]; d[i] = d[i - 1]; }
    t[0] = key; d[0] = k | write; c->hit++; return 1;
  }
  uint32_t last = c->ways - 1;
  if (t[last] && d[last]) { *victim = t[last] - 1; c->wb++; }
  for (uint32_t i = last; i; i--) { t[i] = t[i - 1]; d[i] = d[i - 1]; }
  t[0] = key; d[0] = write; c->miss++; return 0;
}
static void on_mem(unsigned cpu, qemu_plugin_meminfo_t info, uint64_t va, void *u) {
  (void)cpu; (void)u;
  int w = qemu_plugin_mem_is_store(info); uint64_t a = va >> 6, b = (va + (1u << qemu_plugin_mem_size_shift(info)) - 1) >> 6, v, v2;
  for (; a <= b; a++) if (!cache_touch(&l1, a, w, &v)) {
    if (v) cache_touch(&l2, v, 1, &v2);
    cache_touch(&l2, a, 0, &v2);
  }
}

#define MAXN 65536
typedef struct { char *name; uint64_t n; } Slot;
typedef struct { Slot s[MAXN]; int used; } Table;
static Table forms, funcs;

static uint32_t slot(Table *t, const char *k) {
  uint32_t h = 2166136261u;
  for (const char *p = k; *p; p++) h = (h ^ (uint8_t)*p) * 16777619u;
  for (h &= MAXN - 1;; h = (h + 1) & (MAXN - 1)) {
    if (!t->s[h].name) {
      if (++t->used == MAXN) { fprintf(stderr, "armcount: more than %d names\n", MAXN); exit(1); }
      t->s[h].name = strdup(k); return h;
    }
    if (!strcmp(t->s[h].name, k)) return h;
  }
}

typedef struct Block { struct Block *next; uint64_t execs; uint32_t func; uint32_t n; uint32_t form[]; } Block;
static Block *blocks;
static const char *out_path = "armcount.tsv";

/* "sdot v0.4s, v1.16b, v2.4b[1]" -> "sdot.4s"; "ldp q0, q1, [x2]" -> "ldp.q"; "add x0, x1, #1" -> "add.x" */
static void form_of(const char *d, char *o, size_t cap) {
  size_t i = 0;
  while (*d && !isspace((unsigned char)*d) && i + 1 < cap) o[i++] = *d++;
  while (isspace((unsigned char)*d)) d++;
  if (*d == '{') { d++; while (isspace((unsigned char)*d)) d++; }
  if (*d == 'v') {
    const char *dot = strchr(d, '.');
    if (dot) { if (i + 1 < cap) o[i++] = '.'; dot++; while (isalnum((unsigned char)*dot) && i + 1 < cap) o[i++] = *dot++; }
  } else if (*d && strchr("qdshbxw", *d) && isdigit((unsigned char)d[1]) && i + 2 < cap) { o[i++] = '.'; o[i++] = *d; }
  o[i] = 0;
}

/* Forms that older disassemblers print as ".byte": {mask, value, name, suffix of the 64-bit form, of the 128-bit form}. */
static const struct { uint32_t mask, value; const char *name, *d, *q; } EXTRA[] = {
  {0xbfe0fc00, 0x0e809400, "sdot", "d", "q"}, {0xbfe0fc00, 0x2e809400, "udot", "d", "q"}, {0xbfe0fc00, 0x0e809c00, "usdot", "d", "q"},
  {0xbfc0f400, 0x0f80e000, "sdot.elem", "d", "q"}, {0xbfc0f400, 0x2f80e000, "udot.elem", "d", "q"},
  {0xbfc0f400, 0x0f80f000, "usdot.elem", "d", "q"}, {0xbfc0f400, 0x0f00f000, "sudot.elem", "d", "q"},
  {0xffe0fc00, 0x4e80a400, "smmla", "q", "q"}, {0xffe0fc00, 0x6e80a400, "ummla", "q", "q"}, {0xffe0fc00, 0x4e80ac00, "usmmla", "q", "q"},
  {0xffe0fc00, 0x6e40ec00, "bfmmla", "q", "q"}, {0xbfe0fc00, 0x2e40fc00, "bfdot", "d", "q"}, {0xbfe0fc00, 0x0e20ec00, "fmlal", "d", "q"},
  {0xbfc0f400, 0x0f001000, "fmla", "4h", "8h"}, {0xbfc0f400, 0x0f005000, "fmls", "4h", "8h"}, {0xbfc0f400, 0x0f009000, "fmul", "4h", "8h"},
  {0xbfe0fc00, 0x0e400c00, "fmla", "4h", "8h"}, {0xbfe0fc00, 0x0ec00c00, "fmls", "4h", "8h"}, {0xbfe0fc00, 0x2e401c00, "fmul", "4h", "8h"},
  {0xbfe0fc00, 0x0e401400, "fadd", "4h", "8h"}, {0xbfe0fc00, 0x0ec01400, "fsub", "4h", "8h"}, {0xbfe0fc00, 0x2e401400, "faddp", "4h", "8h"},
  {0xbfe0fc00, 0x0e403400, "fmax", "4h", "8h"}, {0xbfe0fc00, 0x0ec03400, "fmin", "4h", "8h"}, {0xbfe0fc00, 0x0e400400, "fmaxnm", "4h", "8h"},
  {0xbfe0fc00, 0x2e808400, "sqrdmlah", "2s", "4s"}, {0xbfe0fc00, 0x2e408400, "sqrdmlah", "4h", "8h"},
  {0xffe0fc00, 0x1ee02800, "fadd", "h", "h"}, {0xffe0fc00, 0x1ee03800, "fsub", "h", "h"}, {0xffe0fc00, 0x1ee00800, "fmul", "h", "h"},
};

static void on_translate(qemu_plugin_id_t id, struct qemu_plugin_tb *tb) {
  (void)id;
  size_t n = qemu_plugin_tb_n_insns(tb);
  Block *b = calloc(1, sizeof *b + n * sizeof(uint32_t));
  b->n = n;
  for (size_t i = 0; i < n; i++) {
    struct qemu_plugin_insn *in = qemu_plugin_tb_get_insn(tb, i);
    if (i == 0) { const char *s = qemu_plugin_insn_symbol(in); b->func = slot(&funcs, s && *s ? s : "?"); }
    char *d = qemu_plugin_insn_disas(in), f[64];
    form_of(d ? d : "?", f, sizeof f);
    if (!strcmp(f, ".byte")) {
      uint32_t w; memcpy(&w, qemu_plugin_insn_data(in), 4);
      for (size_t k = 0; k < sizeof EXTRA / sizeof *EXTRA; k++)
        if ((w & EXTRA[k].mask) == EXTRA[k].value) { snprintf(f, sizeof f, "%s.%s", EXTRA[k].name, (w >> 30) & 1 ? EXTRA[k].q : EXTRA[k].d); break; }
      if (!strcmp(f, ".byte")) snprintf(f, sizeof f, "unknown.%08x", w);
    }
    b->form[i] = slot(&forms, f);
    free(d);
    if (caching) qemu_plugin_register_vcpu_mem_cb(in, on_mem, CB_NO_REGS, MEM_RW, NULL);
  }
  b->next = blocks; blocks = b;
  qemu_plugin_register_vcpu_tb_exec_inline(tb, QEMU_PLUGIN_INLINE_ADD_U64, &b->execs, 1);
}

/* Laps: the counts at the last reading of the clock. */
enum { CLOCK_GETTIME = 113 };
static FILE *laps;
static unsigned lap;
static uint64_t seen_forms[MAXN], seen_funcs[MAXN], seen_cache[4];

static void sum_blocks(void) {
  for (int i = 0; i < MAXN; i++) forms.s[i].n = funcs.s[i].n = 0;
  for (Block *b = blocks; b; b = b->next) {
    for (uint32_t i = 0; i < b->n; i++) forms.s[b->form[i]].n += b->execs;
    funcs.s[b->func].n += b->execs * b->n;
  }
}

static void lap_of(const Table *t, const char *kind, uint64_t *seen) {
  for (int i = 0; i < MAXN; i++) if (t->s[i].n != seen[i]) {
    fprintf(laps, "%u\t%s\t%s\t%llu\n", lap, kind, t->s[i].name, (unsigned long long)(t->s[i].n - seen[i]));
    seen[i] = t->s[i].n;
  }
}

static void end_lap(void) {
  static const char *const event[4] = {"l1_miss", "l1_writeback", "l2_miss", "l2_writeback"};
  const uint64_t now[4] = {l1.miss, l1.wb, l2.miss, l2.wb};
  sum_blocks();
  for (int i = 0; caching && i < 4; i++) {
    fprintf(laps, "%u\tcache\t%s\t%llu\n", lap, event[i], (unsigned long long)(now[i] - seen_cache[i]));
    seen_cache[i] = now[i];
  }
  lap_of(&forms, "form", seen_forms);
  lap_of(&funcs, "func", seen_funcs);
  lap++;
}

static void on_syscall(qemu_plugin_id_t id, unsigned cpu, int64_t num, uint64_t a, uint64_t b, uint64_t c, uint64_t d,
                       uint64_t e, uint64_t f, uint64_t g, uint64_t h) {
  (void)id; (void)cpu; (void)a; (void)b; (void)c; (void)d; (void)e; (void)f; (void)g; (void)h;
  if (num == CLOCK_GETTIME) end_lap();
}

static void on_exit_(qemu_plugin_id_t id, void *u) {
  (void)id; (void)u;
  if (laps) { end_lap(); fclose(laps); }
  sum_blocks();
  FILE *f = fopen(out_path, "w");
  if (!f) { perror(out_path); return; }
  if (caching) fprintf(f, "cache\tl1_miss\t%llu\ncache\tl1_writeback\t%llu\ncache\tl2_miss\t%llu\ncache\tl2_writeback\t%llu\n",
    (unsigned long long)l1.miss, (unsigned long long)l1.wb, (unsigned long long)l2.miss, (unsigned long long)l2.wb);
  for (int i = 0; i < MAXN; i++) if (forms.s[i].n) fprintf(f, "form\t%s\t%llu\n", forms.s[i].name, (unsigned long long)forms.s[i].n);
  for (int i = 0; i < MAXN; i++) if (funcs.s[i].n) fprintf(f, "func\t%s\t%llu\n", funcs.s[i].name, (unsigned long long)funcs.s[i].n);
  fclose(f);
}

__attribute__((visibility("default")))
int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv) {
  (void)info;
  for (int i = 0; i < argc; i++) {
    unsigned kib, ways;
    if (!strncmp(argv[i], "out=", 4)) out_path = strdup(argv[i] + 4);
    else if (!strncmp(argv[i], "laps=", 5)) {
      if (!(laps = fopen(argv[i] + 5, "w"))) { perror(argv[i] + 5); return 1; }
    }
    else if (sscanf(argv[i], "l1=%u:%u", &kib, &ways) == 2) { cache_init(&l1, kib, ways); caching |= 1; }
    else if (sscanf(argv[i], "l2=%u:%u", &kib, &ways) == 2) { cache_init(&l2, kib, ways); caching |= 2; }
    else { fprintf(stderr, "armcount: unknown argument %s\n", argv[i]); return 1; }
  }
  if (caching && caching != 3) { fprintf(stderr, "armcount: give both l1=KIB:WAYS and l2=KIB:WAYS\n"); return 1; }
  qemu_plugin_register_vcpu_tb_trans_cb(id, on_translate);
  if (laps) qemu_plugin_register_vcpu_syscall_cb(id, on_syscall);
  qemu_plugin_register_atexit_cb(id, on_exit_, NULL);
  return 0;
}
