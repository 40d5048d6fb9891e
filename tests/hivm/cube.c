// A functional model of the cube core's instructions that the vendor's templates are made of, so that its own bitcode for nd2nz, mma_tile
// and fixpipe runs on x86; and flags between the cores of a group, as counters that threads wait for.
//
// Layouts (elements of C0 = 32 bytes): L1 [columns/C0][rows][C0]; L0A [m/16][k/C0][16][C0]; L0B [k/C0][n/16][16][C0];
// L0C [n/16][m][16]. L1, L0C and device memory are given by address, L0A and L0B by offset: only the macro uses them.
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t u64;
#define NAME(text) __asm__("hivm." text)

static char l0a[64 * 1024], l0b[64 * 1024];
static u64 fmatrix_a, fmatrix_b;

static float bf16_to_float(uint16_t bits) {
    uint32_t wide = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &wide, 4);
    return value;
}

static uint16_t float_to_bf16(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

// Order inside a core is checked elsewhere: instructions run one after the other here.
void hivm_trap(void) NAME("TRAP");
void hivm_trap(void) { abort(); }
void hivm_barrier(u64 pipe) NAME("BARRIER");
void hivm_barrier(u64 pipe) {}
#define FLAG(name, text) void name(u64 a, u64 b, u64 c) NAME(text); void name(u64 a, u64 b, u64 c) {}
FLAG(set_flag_imm, "SET.FLAG.IMM")
FLAG(wait_flag_imm, "WAIT.FLAG.IMM")
FLAG(set_flag_reg, "SET.FLAG.REG")
FLAG(wait_flag_reg, "WAIT.FLAG.REG")
void set_quant(u64 value) NAME("SET.QUANT.PRE");
void set_quant(u64 value) {}
void set_nd(u64 value) NAME("SET.ND.PARA");
void set_nd(u64 value) {}
void set_fmatrix(u64 value) NAME("SET.FMATRIX");
void set_fmatrix(u64 value) { fmatrix_a = value; }
void set_fmatrix_b(u64 value) NAME("SET.FMATRIX.B");
void set_fmatrix_b(u64 value) { fmatrix_b = value; }
void bias(u64 to, u64 from, u64 config) NAME("MOV.L1.TO.BT");
void bias(u64 to, u64 from, u64 config) { abort(); }

// Device memory to L1: rows of a matrix to columns of fractals, the last one filled with zeros.
static void nd2nz(char *to, const char *from, u64 c0, u64 c1, int bytes) {
    int rows = (c0 >> 16) & 0xffff, columns = (c0 >> 32) & 0xffff, pitch = c1 & 0xffff, height = (c1 >> 16) & 0xffff;
    int width = 32 / bytes, padded = (columns + width - 1) / width * width;
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < padded; c++) {
            char *place = to + ((long)(c / width) * height * width + (long)r * width + c % width) * bytes;
            if (c < columns) memcpy(place, from + ((long)r * pitch + c) * bytes, bytes);
            else memset(place, 0, bytes);
        }
}
#define ND2NZ(name, text, bytes) \
    void name(char *to, char *from, u64 c0, u64 c1) NAME("MOV.OUT.TO.L1.MULTI.ND2NZ." text); \
    void name(char *to, char *from, u64 c0, u64 c1) { nd2nz(to, from, c0, c1, bytes); }
ND2NZ(nd2nz_f16, "f16", 2)
ND2NZ(nd2nz_bf16, "bf16", 2)
ND2NZ(nd2nz_f32, "f32s", 4)
ND2NZ(nd2nz_s8, "s8", 1)

// Device memory to L1: runs of blocks of 32 bytes.
void to_l1(char *to, char *from, u64 c0, u64 c1) NAME("MOV.OUT.TO.L1.v220");
void to_l1(char *to, char *from, u64 c0, u64 c1) {
    long runs = (c0 >> 4) & 0xfff, length = ((c0 >> 16) & 0xffff) * 32, from_gap = ((c0 >> 32) & 0xffff) * 32, gap = (c0 >> 48) * 32;
    for (long i = 0; i < runs; i++) memcpy(to + i * (length + gap), from + i * (length + from_gap), length);
}

// L1 to L0 as a window of one element: `step` rows and columns from a position; bit 46 exchanges them.
static void load3d(char *to, const char *from, u64 c0, u64 c1, u64 fmatrix, int bytes, int is_b) {
    int columns = c0 & 0xffff, rows = (c0 >> 16) & 0xffff, column0 = (c0 >> 32) & 0xffff, row0 = (c0 >> 48) & 0xffff;
    int area = (int)(fmatrix & 0xffff) * (int)((fmatrix >> 16) & 0xffff), turned = (c1 >> 46) & 1, width = 32 / bytes;
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < columns; c++) {
            int from_row = row0 + r, from_column = column0 + c;
            const char *source = from + ((long)(from_column / width) * area * width + (long)from_row * width + from_column % width) * bytes;
            int m = turned ? c : r, k = turned ? r : c, depth = turned ? rows : columns;
            long place;
            if (is_b) place = ((long)(r / width) * ((columns + 15) / 16) + c / 16) * 16 * width + (c % 16) * width + r % width;
            else place = ((long)(m / 16) * ((depth + width - 1) / width) + k / width) * 16 * width + (m % 16) * width + k % width;
            memcpy(to + place * bytes, source, bytes);
        }
}
#define LOAD3D(name, text, bytes) \
    void name##_a(u64 to, char *from, u64 c0, u64 c1) NAME("LOAD.L1.TO.L0A.3DV2." text); \
    void name##_a(u64 to, char *from, u64 c0, u64 c1) { load3d(l0a + to, from, c0, c1, (c1 >> 47) & 1 ? fmatrix_b : fmatrix_a, bytes, 0); } \
    void name##_b(u64 to, char *from, u64 c0, u64 c1) NAME("LOAD.L1.TO.L0B.3DV2." text); \
    void name##_b(u64 to, char *from, u64 c0, u64 c1) { load3d(l0b + to, from, c0, c1, (c1 >> 47) & 1 ? fmatrix_b : fmatrix_a, bytes, 1); }
LOAD3D(load3d_f16, "f16", 2)
LOAD3D(load3d_f32, "f32", 4)

// L1 to L0: fractals of 512 bytes as they are.
static void load2d(char *to, const char *from, u64 config) {
    int first = config & 0xffff, count = (config >> 16) & 0xff, stride = (config >> 24) & 0xffff, gap = (config >> 44) & 0xffff;
    for (int i = 0; i < count; i++) memcpy(to + (long)i * (gap + 1) * 512, from + (long)(first + i * stride) * 512, 512);
}
#define LOAD2D(name, text) \
    void name##_a(u64 to, char *from, u64 config, u64 b, u64 c) NAME("LOAD.L1.TO.L0A.2D.V220." text ".addr"); \
    void name##_a(u64 to, char *from, u64 config, u64 b, u64 c) { load2d(l0a + to, from, config); } \
    void name##_b(u64 to, char *from, u64 config, u64 b, u64 c) NAME("LOAD.L1.TO.L0B.2D.V220." text ".addr"); \
    void name##_b(u64 to, char *from, u64 config, u64 b, u64 c) { load2d(l0b + to, from, config); }
LOAD2D(load2d_f16, "f16")
LOAD2D(load2d_bf16, "bf16")
LOAD2D(load2d_f32, "f32")
LOAD2D(load2d_s8, "s8")

// L1 to L0: 32 rows of 32 bytes become columns.
static void turn(char *to, const char *from, u64 config) {
    if (((config >> 16) & 0xff) != 1) abort();
    for (int r = 0; r < 32; r++)
        for (int c = 0; c < 32; c++) to[c * 32 + r] = from[r * 32 + c];
}
void turn_a(u64 to, char *from, u64 config, u64 gap) NAME("LOAD.L1.TO.L0A.2D.TRANSPOSE.s8");
void turn_a(u64 to, char *from, u64 config, u64 gap) { turn(l0a + to, from, config); }
void turn_b(u64 to, char *from, u64 config, u64 gap) NAME("LOAD.L1.TO.L0B.2D.TRANSPOSE.s8");
void turn_b(u64 to, char *from, u64 config, u64 gap) { turn(l0b + to, from, config); }

// The product: sizes in the configuration, its top bit replaces what the accumulator holds.
static float element(const char *base, long at, int kind) {
    switch (kind) {
    case 0: return (float)((const _Float16 *)base)[at];
    case 1: return bf16_to_float(((const uint16_t *)base)[at]);
    default: return ((const float *)base)[at];
    }
}

static void mad(float *acc, u64 a, u64 b, u64 config, int kind) {
    int m = config & 0xfff, k = (config >> 12) & 0xfff, n = (config >> 24) & 0xfff, fresh = config >> 63;
    int width = kind == 2 ? 8 : 16, deep = (k + width - 1) / width, wide = (n + 15) / 16;
    long high = (m + 15) / 16 * 16;
    for (int r = 0; r < m; r++)
        for (int c = 0; c < n; c++) {
            float *place = &acc[(c / 16) * high * 16 + (long)r * 16 + c % 16], sum = fresh ? 0 : *place;
            for (int i = 0; i < k; i++) {
                long left = ((long)(r / 16) * deep + i / width) * 16 * width + (r % 16) * width + i % width;
                long right = ((long)(i / width) * wide + c / 16) * 16 * width + (c % 16) * width + i % width;
                sum += element(l0a + a, left, kind) * element(l0b + b, right, kind);
            }
            *place = sum;
        }
}
#define MAD(name, text, kind) \
    void name(float *acc, u64 a, u64 b, u64 config) NAME("MAD." text); \
    void name(float *acc, u64 a, u64 b, u64 config) { mad(acc, a, b, config, kind); }
MAD(mad_f16, "f162f32", 0)
MAD(mad_bf16, "bf162f32", 1)
MAD(mad_f32, "f322f32", 2)

void mad_s8(int32_t *acc, u64 a, u64 b, u64 config) NAME("MAD.s8");
void mad_s8(int32_t *acc, u64 a, u64 b, u64 config) {
    int m = config & 0xfff, k = (config >> 12) & 0xfff, n = (config >> 24) & 0xfff, fresh = config >> 63;
    long deep = (k + 31) / 32, wide = (n + 15) / 16, high = (m + 15) / 16 * 16;
    for (int r = 0; r < m; r++)
        for (int c = 0; c < n; c++) {
            int32_t *place = &acc[(c / 16) * high * 16 + (long)r * 16 + c % 16], sum = fresh ? 0 : *place;
            for (int i = 0; i < k; i++)
                sum += l0a[a + ((long)(r / 16) * deep + i / 32) * 512 + (r % 16) * 32 + i % 32]
                    * l0b[b + ((long)(i / 32) * wide + c / 16) * 512 + (c % 16) * 32 + i % 32];
            *place = sum;
        }
}

// L0C to device memory, row by row.
static void fixpipe(char *to, const float *from, u64 c0, u64 c1, int kind) {
    int columns = (c0 >> 4) & 0xfff, rows = (c0 >> 16) & 0xffff, height = c1 & 0xffff, relu = (c1 >> 39) & 7;
    long pitch = c0 >> 32;
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < columns; c++) {
            float value = from[(long)(c / 16) * height * 16 + (long)r * 16 + c % 16];
            if (relu && value < 0) value = 0;
            // Integers stay as they are.
            if (kind == 3) memcpy(to + (r * pitch + c) * 4, from + (long)(c / 16) * height * 16 + (long)r * 16 + c % 16, 4);
            else if (kind == 0) ((_Float16 *)to)[r * pitch + c] = (_Float16)value;
            else if (kind == 1) ((uint16_t *)to)[r * pitch + c] = float_to_bf16(value);
            else ((float *)to)[r * pitch + c] = value;
        }
}
#define FIXPIPE(name, text, kind) \
    void name(char *to, float *from, u64 c0, u64 c1) NAME("FIX.L0C.TO.OUT." text); \
    void name(char *to, float *from, u64 c0, u64 c1) { fixpipe(to, from, c0, c1, kind); }
FIXPIPE(fix_f16, "f2h", 0)
FIXPIPE(fix_bf16, "f322bf16", 1)
FIXPIPE(fix_f32, "f32", 2)
FIXPIPE(fix_s32, "s32", 3)

// Flags of a group: a cube core's reaches every lane, a vector core's counts for its lane.
enum { LANES = 2, FLAGS = 16 };
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int to_vector[LANES][FLAGS], to_cube[LANES][FLAGS];
static __thread int lane;

void group_enter(int which) { lane = which; }
int64_t group_lane(void) { return lane; }

void group_set(int64_t cube, int64_t flag) {
    pthread_mutex_lock(&lock);
    if (cube) for (int i = 0; i < LANES; i++) to_vector[i][flag]++;
    else to_cube[lane][flag]++;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

void group_wait(int64_t cube, int64_t flag) {
    pthread_mutex_lock(&lock);
    if (cube) {
        for (int i = 0; i < LANES; i++) {
            while (!to_cube[i][flag]) pthread_cond_wait(&changed, &lock);
            to_cube[i][flag]--;
        }
    } else {
        while (!to_vector[lane][flag]) pthread_cond_wait(&changed, &lock);
        to_vector[lane][flag]--;
    }
    pthread_mutex_unlock(&lock);
}

// How many flags are set and not waited for.
int64_t group_left(void) {
    int64_t left = 0;
    for (int i = 0; i < LANES; i++)
        for (int f = 0; f < FLAGS; f++) left += to_vector[i][f] + to_cube[i][f];
    return left;
}
