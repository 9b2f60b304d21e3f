// Element-wise ops: every formula of core/scalar_ops.h becomes a loop over one row, and one walk over any views calls
// it.
//
// Bytes: a float op reads 4 or 8 per element and writes 4, and does 1 to 60 instructions per register of 8 or 16:
// memory is the limit for all but the longest formulas.
//
// A result does not depend on where its element stands: the last, partial register runs the same formula as the others,
// operands that lie apart are first gathered into a block that does not, and threads take pieces fixed by the shape.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "core/kernels.h"
#include "core/parallel.h"
#include "core/scalar_ops.h"
#include "core/simd.h"

namespace glassgrad {

namespace {

constexpr int MAX_OPERANDS = 3;

// ---- one row --------------------------------------------------------------------------------------------------------

/// y[0, n) from n elements of each operand, which lie side by side, or from one, where the operand is repeated.
using Row = void (*)(void* y, const void* const* x, i64 n);

/// An operand's register at j. Lanes beyond the end are 1, which is in the domain of every op.
template <class T, bool REPEATED>
struct Registers {
    explicit Registers(const void* p) : x(static_cast<const T*>(p)) {
        if constexpr (REPEATED) {
            T value;
            std::memcpy(&value, x, sizeof value);
            same = broadcast(value);
        }
    }
    template <class Lanes>
    Vec<T> at(i64 j, Lanes lanes) const {
        if constexpr (REPEATED)
            return same;
        else if constexpr (std::is_same_v<Lanes, int>)
            return load_partial(x + j, lanes, T(1));
        else
            return load(x + j);
    }
    const T* x;
    Vec<T> same;
};

/// Bit k of REPEATED: operand k is. Flat: left alone, GCC calls the longer formulas, which doubles their time.
template <class F, class T, unsigned REPEATED, std::size_t... K>
[[gnu::flatten]] void vector_row(void* y, const void* const* x, i64 n, std::index_sequence<K...>) {
    T* out = static_cast<T*>(y);
    const auto row = [&](const Registers<T, (REPEATED >> K & 1) != 0>&... operand) {
        using All = std::integral_constant<int, W<T>>;
        i64 j = 0;
        for (; j + W<T> <= n; j += W<T>) store(out + j, Vec<T>(F::f(operand.at(j, All{})...)));
        if (const int left = static_cast<int>(n - j))
            store_partial(out + j, Vec<T>(F::f(operand.at(j, left)...)), left);
    };
    row(Registers<T, (REPEATED >> K & 1) != 0>(x[K])...);
}
template <class F, class T, int OPERANDS, unsigned REPEATED = 0>
void row_of(void* y, const void* const* x, i64 n) {
    vector_row<F, T, REPEATED>(y, x, n, std::make_index_sequence<OPERANDS>{});
}

/// p[i], or *p; of memory of any alignment. Loops over these are made vector loops by the compiler: bytes and elements
/// of different widths meet in them.
template <class T, bool REPEATED = false>
struct Elements {
    explicit Elements(const void* p) : x(static_cast<const char*>(p)) {}
    T operator[](i64 i) const {
        T value;
        std::memcpy(&value, x + (REPEATED ? 0 : i * static_cast<i64>(sizeof(T))), sizeof value);
        return value;
    }
    const char* x;
};

template <class Op, class T, unsigned REPEATED>
void comparison_row(void* y, const void* const* x, i64 n) {
    bool* __restrict out = static_cast<bool*>(y);
    const Elements<T, (REPEATED & 1) != 0> a(x[0]);
    const Elements<T, (REPEATED & 2) != 0> b(x[1]);
    for (i64 i = 0; i < n; ++i) out[i] = Op::f(a[i], b[i]);
}
template <class Op, class T>
void predicate_row(void* y, const void* const* x, i64 n) {
    bool* __restrict out = static_cast<bool*>(y);
    const Elements<T> a(x[0]);
    for (i64 i = 0; i < n; ++i) out[i] = Op::f(a[i]);
}
/// In bits, since only of integers does the compiler see that a choice is no branch. Bits 1, 2 of REPEATED: a, b.
template <class T, unsigned REPEATED>
void where_row(void* y, const void* const* x, i64 n) {
    using Int = typename VectorTypes<T>::Int;
    char* __restrict out = static_cast<char*>(y);
    const bool* mask = static_cast<const bool*>(x[0]);
    const Elements<Int, (REPEATED & 2) != 0> a(x[1]);
    const Elements<Int, (REPEATED & 4) != 0> b(x[2]);
    for (i64 i = 0; i < n; ++i) {
        const Int u = a[i], v = b[i], chosen = v ^ ((u ^ v) & -Int{mask[i]});
        std::memcpy(out + i * static_cast<i64>(sizeof chosen), &chosen, sizeof chosen);
    }
}

// ---- any views ------------------------------------------------------------------------------------------------------

constexpr i64 CHUNK = 1 << 15;     // elements: 128 KiB of float, about 10 us, ten times what handing a chunk over costs
constexpr i64 SHORT_ROW = 16;      // below, calls of the row cost more than gathering several rows into one block
constexpr i64 BLOCK = 1024;        // elements gathered at a time: 3 operands of double fill half of L1
constexpr i64 BLOCK_COLUMNS = 32;  // two cache lines of float either way, for an operand that is transposed

struct Operand {
    template <class X>
    Operand(const View<X>& v) : data(reinterpret_cast<const char*>(v.data)), size(sizeof(X)), stride(v.stride) {}
    const char* data;
    i64 size;  // bytes of an element
    const i64* stride;
};

/// The axes the operands share, innermost first, those that can be walked as one joined to one. y is contiguous.
class Walk {
  public:
    template <class Y, class X, class... More>
    Walk(Y* out, const Row* rows, const View<X>& x, const View<More>&... more)
        : y(reinterpret_cast<char*>(out)), y_size(sizeof(Y)), rows(rows), operands(1 + sizeof...(More)) {
        const Operand operand[] = {x, more...};
        for (int k = 0; k < operands; ++k) data[k] = operand[k].data, size[k] = operand[k].size;
        for (int d = x.ndim; d-- > 0;) {
            if (x.shape[d] == 1) continue;
            total *= x.shape[d];
            i64 next[MAX_OPERANDS];
            bool joint = ndim > 0;
            for (int k = 0; k < operands; ++k) {
                next[k] = operand[k].stride[d] * size[k];
                joint = joint && next[k] == step[ndim - 1][k] * shape[ndim - 1];
            }
            if (joint) {
                shape[ndim - 1] *= x.shape[d];
            } else {
                shape[ndim] = x.shape[d];
                std::copy_n(next, operands, step[ndim++]);
            }
        }
    }

    void run() const {
        if (total == 0) return;
        unsigned repeated = 0;
        bool side_by_side = true;
        for (int k = 0; k < operands && ndim > 0; ++k) {
            if (step[0][k] == 0)
                repeated |= 1u << k;
            else if (step[0][k] != size[k])
                side_by_side = false;
        }
        if (side_by_side && rows[repeated] && (ndim <= 1 || shape[0] >= SHORT_ROW))
            by_rows(rows[repeated]);
        else
            by_blocks();
    }

  private:
    /// The addresses of the operands at position i of the axes from `first` on.
    struct Position {
        Position(const Walk& w, int first, i64 i) : walk(w), first(first) {
            std::copy_n(w.data, w.operands, x);
            for (int d = first; d < w.ndim; ++d) {
                index[d] = i % w.shape[d];
                i /= w.shape[d];
                for (int k = 0; k < w.operands; ++k) x[k] += index[d] * w.step[d][k];
            }
        }
        void advance() {
            for (int d = first; d < walk.ndim; ++d) {
                for (int k = 0; k < walk.operands; ++k) x[k] += walk.step[d][k];
                if (++index[d] < walk.shape[d]) return;
                for (int k = 0; k < walk.operands; ++k) x[k] -= walk.shape[d] * walk.step[d][k];
                index[d] = 0;
            }
        }
        const Walk& walk;
        const int first;
        const char* x[MAX_OPERANDS];
        i64 index[MAX_DIMS];
    };

    void by_rows(Row row) const {
        const i64 inner = ndim ? shape[0] : 1;
        parallel_for(total, CHUNK, [=, this](i64 begin, i64 end) {
            Position position(*this, 1, begin / inner);
            for (i64 j = begin % inner; begin < end; j = 0) {
                const i64 n = std::min(inner - j, end - begin);
                const void* x[MAX_OPERANDS];
                for (int k = 0; k < operands; ++k) x[k] = position.x[k] + (ndim ? j * step[0][k] : 0);
                row(y + begin * y_size, x, n);
                begin += n;
                position.advance();
            }
        });
    }

    /// Blocks of the two innermost axes: each operand is copied in the order it lies in memory, so that a cache line is
    /// read once even where the operand is transposed.
    void by_blocks() const {
        const i64 inner = shape[0], middle = ndim > 1 ? shape[1] : 1, outer = total / (inner * middle);
        const i64 rows_of_block = std::min(middle, BLOCK / std::min(inner, BLOCK_COLUMNS));
        const i64 cols_of_block = std::min(inner, BLOCK / rows_of_block);
        const i64 down = (middle - 1) / rows_of_block + 1, across = (inner - 1) / cols_of_block + 1;
        parallel_for(outer * down * across, CHUNK / BLOCK, [=, this](i64 begin, i64 end) {
            alignas(64) char block[MAX_OPERANDS][BLOCK * sizeof(double)];
            for (i64 b = begin; b < end; ++b) {
                const i64 c0 = b % across * cols_of_block, cols = std::min(cols_of_block, inner - c0);
                const i64 r0 = b / across % down * rows_of_block, row_count = std::min(rows_of_block, middle - r0);
                const Position position(*this, 2, b / across / down);
                for (int k = 0; k < operands; ++k) {
                    const i64 by_row = ndim > 1 ? step[1][k] : 0;
                    gather(block[k], position.x[k] + r0 * by_row + c0 * step[0][k], size[k], row_count, cols, by_row,
                           step[0][k]);
                }
                char* out = y + (b / across / down * middle * inner + r0 * inner + c0) * y_size;
                const bool whole = cols == inner;  // then the rows of the block lie side by side in y too
                const i64 calls = whole ? 1 : row_count, n = whole ? row_count * cols : cols;
                for (i64 r = 0; r < calls; ++r) {
                    const void* x[MAX_OPERANDS];
                    for (int k = 0; k < operands; ++k) x[k] = block[k] + r * cols * size[k];
                    rows[0](out + r * inner * y_size, x, n);
                }
            }
        });
    }

    static void gather(char* to, const char* from, i64 size, i64 row_count, i64 cols, i64 by_row, i64 by_col) {
        switch (size) {
            case 1:
                return gather_of<1>(to, from, row_count, cols, by_row, by_col);
            case 4:
                return gather_of<4>(to, from, row_count, cols, by_row, by_col);
            default:
                return gather_of<8>(to, from, row_count, cols, by_row, by_col);
        }
    }
    template <i64 SIZE>
    static void gather_of(char* to, const char* from, i64 row_count, i64 cols, i64 by_row, i64 by_col) {
        const auto copy = [](char* to, i64 to_step, const char* from, i64 from_step, i64 n) {
            for (i64 i = 0; i < n; ++i) std::memcpy(to + i * to_step, from + i * from_step, SIZE);
        };
        if (std::abs(by_row) < std::abs(by_col) && row_count > 1)
            for (i64 c = 0; c < cols; ++c) copy(to + c * SIZE, cols * SIZE, from + c * by_col, by_row, row_count);
        else if (by_col == SIZE)
            for (i64 r = 0; r < row_count; ++r) copy(to + r * cols * SIZE, SIZE, from + r * by_row, SIZE, cols);
        else
            for (i64 r = 0; r < row_count; ++r) copy(to + r * cols * SIZE, SIZE, from + r * by_row, by_col, cols);
    }

    char* const y;
    const i64 y_size;
    const Row* const rows;  // by which operands are repeated; null where no loop is compiled
    const int operands;
    const char* data[MAX_OPERANDS];
    i64 size[MAX_OPERANDS];
    int ndim = 0;
    i64 total = 1;
    i64 shape[MAX_DIMS];
    i64 step[MAX_DIMS][MAX_OPERANDS];  // bytes
};

template <class Op>
struct Derivative {
    template <class V>
    static V f(const V& dy, const V& kept) {
        return Op::df(dy, kept);
    }
};

}  // namespace

// ---- kernels --------------------------------------------------------------------------------------------------------

template <class Op, class T>
void unary(T* y, const View<const T>& x) {
    static constexpr Row ROWS[] = {row_of<Op, T, 1>, nullptr};
    Walk(y, ROWS, x).run();
}

template <class Op, class T>
void unary_backward(T* dx, const View<const T>& dy, const View<const T>& kept) {
    static constexpr Row ROWS[] = {row_of<Derivative<Op>, T, 2>, nullptr, nullptr, nullptr};
    Walk(dx, ROWS, dy, kept).run();
}

template <class Op, class T>
void predicate(bool* y, const View<const T>& x) {
    static constexpr Row ROWS[] = {predicate_row<Op, T>, nullptr};
    Walk(y, ROWS, x).run();
}

template <class Op, class T>
void binary(T* y, const View<const T>& a, const View<const T>& b) {
    static constexpr Row ROWS[] = {row_of<Op, T, 2>, row_of<Op, T, 2, 1>, row_of<Op, T, 2, 2>, nullptr};
    Walk(y, ROWS, a, b).run();
}

template <class Op, class T>
void compare(bool* y, const View<const T>& a, const View<const T>& b) {
    static constexpr Row ROWS[] = {comparison_row<Op, T, 0>, comparison_row<Op, T, 1>, comparison_row<Op, T, 2>,
                                   nullptr};
    Walk(y, ROWS, a, b).run();
}

template <class T>
void where(T* y, const View<const bool>& mask, const View<const T>& a, const View<const T>& b) {
    static constexpr Row ROWS[] = {where_row<T, 0>, nullptr, where_row<T, 2>, nullptr,
                                   where_row<T, 4>, nullptr, where_row<T, 6>, nullptr};
    Walk(y, ROWS, mask, a, b).run();
}

#define UNARY_OF(op, T) template void unary<scalar::op, T>(T*, const View<const T>&);
#define BACKWARD_OF(op, T) template void unary_backward<scalar::op, T>(T*, const View<const T>&, const View<const T>&);
#define PREDICATE_OF(op, T) template void predicate<scalar::op, T>(bool*, const View<const T>&);
#define BINARY_OF(op, T) template void binary<scalar::op, T>(T*, const View<const T>&, const View<const T>&);
#define COMPARE_OF(op, T) template void compare<scalar::op, T>(bool*, const View<const T>&, const View<const T>&);
#define WHERE_OF(T) template void where<T>(T*, const View<const bool>&, const View<const T>&, const View<const T>&);

#define INSTANTIATE(op) UNARY_OF(op, float) UNARY_OF(op, double)
GLASSGRAD_UNARY(INSTANTIATE)
#undef INSTANTIATE
#define INSTANTIATE(op) BACKWARD_OF(op, float) BACKWARD_OF(op, double)
GLASSGRAD_UNARY_WITH_DERIVATIVE(INSTANTIATE)
#undef INSTANTIATE
#define INSTANTIATE(op) PREDICATE_OF(op, float) PREDICATE_OF(op, double)
GLASSGRAD_PREDICATE(INSTANTIATE)
#undef INSTANTIATE
#define INSTANTIATE(op) BINARY_OF(op, float) BINARY_OF(op, double)
GLASSGRAD_BINARY(INSTANTIATE)
#undef INSTANTIATE
#define INSTANTIATE(op) COMPARE_OF(op, float) COMPARE_OF(op, double)
GLASSGRAD_COMPARE(INSTANTIATE)
#undef INSTANTIATE
WHERE_OF(float)
WHERE_OF(double)

}  // namespace glassgrad
