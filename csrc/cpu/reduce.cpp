// Reductions over any axes of any view, and cumsum.
//
// A reduction is a State of some elements, a way to join two States, and a last step: `sum` is {0, +, cast}. Elements
// reach it in two shapes. By rows: one output's elements lie side by side and are joined in vector lanes. By columns:
// the outputs lie side by side, and whole rows of them are joined. Whatever lies at a stride is first gathered into a
// block that does not. The job is cut by shape alone, and pieces are joined in order.
//
// Blocks are short because a chain of n additions errs by up to n / 2 ulp: in float no sum is more than 25 additions
// deep (NumPy's pairwise sum starts at 19). Between blocks everything is double.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <span>
#include <string>

#include "core/allocator.h"
#include "core/kernels.h"
#include "core/math.h"
#include "core/parallel.h"
#include "core/simd.h"

namespace glassgrad {

namespace {

/// Elements of a row joined in T: 16 per lane and chain of float.
template <class T>
constexpr i64 BLOCK = sizeof(T) == sizeof(float) ? 64 * W<T> : 1024;
constexpr i64 CHUNK_ELEMENTS = 1 << 15;  // 128 KiB of float: about 10 us at the speed of memory
constexpr i64 SEGMENT = 1 << 16;         // a longer row is cut, so that threads can share it

constexpr i64 SHORT_RUN = 16;  // a run below is not worth a fold of its own: by columns, if there are

constexpr i64 TILE = 512;          // columns: 2 KiB of each row of float, half a page
constexpr i64 GATHERED_TILE = 32;  // columns at a stride: a gathered block is at most 32 KiB of stack
constexpr i64 TILE_ROWS = 128;     // rows joined in T, eight at a time: 16 + 3 additions deep
constexpr i64 MAX_SEGMENTS = 32;   // pieces the rows are cut into: each costs one State per column

// ---- what to visit --------------------------------------------------------------------------------------------------

/// Steps in elements: x in the input, y in the output (0 for an axis that is reduced).
struct Axis {
    i64 size, x, y;
};

i64 closeness(const Axis& a) { return a.x == 0 ? std::numeric_limits<i64>::max() : std::abs(a.x); }

/// Axes, innermost last.
struct AxisList {
    Axis axis[MAX_DIMS];
    int count = 0;

    void add(const Axis& a) { axis[count++] = a; }
    i64 size() const {
        i64 n = 1;
        for (int d = 0; d < count; ++d) n *= axis[d].size;
        return n;
    }
    /// Innermost the axis with the smallest step; axes that can be walked as one become one.
    void simplify() {
        std::stable_sort(axis, axis + count, [](const Axis& a, const Axis& b) { return closeness(a) > closeness(b); });
        int kept = 0;
        for (int d = 0; d < count; ++d) {
            const Axis inner = axis[d];
            Axis* outer = kept ? &axis[kept - 1] : nullptr;
            if (outer && outer->x == inner.x * inner.size && outer->y == inner.y * inner.size)
                *outer = {outer->size * inner.size, inner.x, inner.y};
            else
                axis[kept++] = inner;
        }
        count = kept;
    }
    Axis innermost() const { return count ? axis[count - 1] : Axis{1, 0, 0}; }
    std::span<const Axis> all() const { return {axis, static_cast<std::size_t>(count)}; }
    std::span<const Axis> outer() const { return {axis, static_cast<std::size_t>(std::max(0, count - 1))}; }
};

/// Where the i-th position of some axes lies in input and output.
class Position {
  public:
    Position(std::span<const Axis> axes, i64 i) : axes_(axes) {
        for (std::size_t d = axes.size(); d-- > 0;) {
            index_[d] = i % axes[d].size;
            x += index_[d] * axes[d].x;
            y += index_[d] * axes[d].y;
            i /= axes[d].size;
        }
    }
    void step() {
        for (std::size_t d = axes_.size(); d-- > 0;) {
            const Axis& a = axes_[d];
            x += a.x;
            y += a.y;
            if (++index_[d] < a.size) return;
            x -= a.x * a.size;
            y -= a.y * a.size;
            index_[d] = 0;
        }
    }
    i64 x = 0, y = 0;

  private:
    std::span<const Axis> axes_;
    i64 index_[MAX_DIMS];
};

template <class T>
struct Plan {
    const T* x;
    i64 y0 = 0;  // the output that x belongs to
    AxisList kept, reduced;
    i64 outputs, count;  // count: elements of one output

    /// ordered: the reduction asks for positions along its one axis, which must then be walked forwards.
    explicit Plan(const View<const T>& view, Axes axes, bool ordered = false) : x(view.data) {
        i64 y_step = 1;
        for (int d = view.ndim; d-- > 0;) {
            const bool is_reduced = axes >> d & 1;
            Axis a{view.shape[d], view.stride[d], is_reduced ? 0 : y_step};
            if (!is_reduced) y_step *= a.size;
            if (a.size == 1) continue;
            if (a.x < 0 && a.size > 1 && !(is_reduced && ordered)) {
                x += (a.size - 1) * a.x;
                y0 += (a.size - 1) * a.y;
                a.x = -a.x;
                a.y = -a.y;
            }
            (is_reduced ? reduced : kept).add(a);
        }
        outputs = kept.size();
        count = reduced.size();
        std::reverse(kept.axis, kept.axis + kept.count);
        std::reverse(reduced.axis, reduced.axis + reduced.count);
        if (outputs && count) {
            kept.simplify();
            reduced.simplify();
        }
    }
};

// ---- how elements are joined ----------------------------------------------------------------------------------------

struct Add {
    template <class T>
    static constexpr T NONE = 0;  // joined with x leaves x
    template <class V>
    static V join(const V& a, const V& b) {
        return a + b;
    }
};
struct Multiply {
    template <class T>
    static constexpr T NONE = 1;
    template <class V>
    static V join(const V& a, const V& b) {
        return a * b;
    }
};
struct Larger {
    template <class T>
    static constexpr T NONE = -std::numeric_limits<T>::infinity();
    template <class V>
    static V join(const V& a, const V& b) {
        return maximum(a, b);
    }
};
struct Smaller {
    template <class T>
    static constexpr T NONE = std::numeric_limits<T>::infinity();
    template <class V>
    static V join(const V& a, const V& b) {
        return minimum(a, b);
    }
};

/// 0, 1, 2, ...: the number of each lane.
template <class T>
Mask<T> lane_numbers() {
    Mask<T> numbers;
    for (int i = 0; i < W<T>; ++i) numbers[i] = i;
    return numbers;
}

/// Joins f(p[0]), ..., f(p[n - 1]), f being given vectors.
template <class Join, class T, class F>
T fold(const T* p, i64 n, F&& f) {
    // Four chains: a join waits 4 cycles for the one before it, and two can start every cycle.
    Vec<T> a = broadcast(Join::template NONE<T>), b = a, c = a, d = a;
    i64 j = 0;
    for (; j + 4 * W<T> <= n; j += 4 * W<T>) {
        a = Join::join(a, f(load(p + j)));
        b = Join::join(b, f(load(p + j + W<T>)));
        c = Join::join(c, f(load(p + j + 2 * W<T>)));
        d = Join::join(d, f(load(p + j + 3 * W<T>)));
    }
    for (; j + W<T> <= n; j += W<T>) a = Join::join(a, f(load(p + j)));
    if (j < n) {
        const int left = static_cast<int>(n - j);
        // The last whole vector holds the rest in its upper lanes: one load instead of one per element.
        const bool overlaps = n >= W<T>;
        const Vec<T> v = f(overlaps ? load(p + n - W<T>) : load_partial(p, left));
        const Mask<T> lane = lane_numbers<T>();
        const Mask<T> is_rest = overlaps ? lane >= W<T> - left : lane < left;
        b = Join::join(b, select(is_rest, v, broadcast(Join::template NONE<T>)));
    }
    return fold_lanes<T>(Join::join(Join::join(a, b), Join::join(c, d)),
                         [](const Vec<T>& u, const Vec<T>& v) { return Join::join(u, v); });
}

/// Some rows of at most TILE columns; `first` numbers row 0 along the reduced axes.
template <class T>
struct Tile {
    const T* const* row;
    int rows, cols;
    i64 first;
};

/// f(column, lanes) for all columns in vectors; the last may have fewer lanes than W<T>.
template <class T, class F>
inline void each_column(const Tile<T>& t, F&& f) {
    int j = 0;
    for (; j + W<T> <= t.cols; j += W<T>) f(j, std::integral_constant<int, W<T>>());
    if (j < t.cols) f(j, t.cols - j);
}
template <class T>
[[gnu::noinline]] Vec<T> load_columns(const T* p, int n) {
    return load_partial(p, n);
}
template <class T>
inline Vec<T> load_columns(const T* p, std::integral_constant<int, W<T>>) {
    return load(p);
}

/// joined[j] = f(row[0][j], j) joined with f(row[1][j], j) and so on. Writes whole vectors: joined holds TILE elements.
template <class Join, class T, class F>
void fold_rows(T* joined, const Tile<T>& t, F&& f) {
    std::fill(joined, joined + TILE, Join::template NONE<T>);
    int i = 0;
    for (; i + 8 <= t.rows; i += 8)
        each_column(t, [&, row = t.row + i](int j, auto lanes) {
            const auto at = [&](int k) { return f(load_columns(row[k] + j, lanes), j); };
            const auto four = [&](int k) {
                return Join::join(Join::join(at(k), at(k + 1)), Join::join(at(k + 2), at(k + 3)));
            };
            store(joined + j, Join::join(load(joined + j), Join::join(four(0), four(4))));
        });
    for (; i < t.rows; ++i)
        each_column(t, [&, p = t.row[i]](int j, auto lanes) {
            store(joined + j, Join::join(load(joined + j), f(load_columns(p + j, lanes), j)));
        });
}

// ---- the reductions -------------------------------------------------------------------------------------------------
//
// Each has: State; NONE, the State of no elements; join(a, b), a from elements before b's; of(p, n, first), the State
// of a block of one output; and add_rows(states, tile), which joins to states[j] what column j of the tile holds. These
// two are called from several loops each, where one copy of their code is enough.

template <class T, class Join>
struct Fold {
    static constexpr bool ORDERED = false;
    using State = double;
    static constexpr State NONE = Join::template NONE<double>;

    static State join(State a, State b) { return Join::join(a, b); }
    [[gnu::noinline]] static State of(const T* p, i64 n, i64) {
        return fold<Join>(p, n, [](const Vec<T>& v) { return v; });
    }
    [[gnu::noinline]] static void add_rows(State* states, const Tile<T>& t) {
        T joined[TILE];
        fold_rows<Join>(joined, t, [](const Vec<T>& v, int) { return v; });
        for (int j = 0; j < t.cols; ++j) states[j] = join(states[j], joined[j]);
    }
};

template <class T>
struct LogSumExp {
    static constexpr bool ORDERED = false;
    struct State {
        double max, sum;  // sum of exp(x - max), of exp(x) where max is infinite
    };
    static constexpr State NONE{-std::numeric_limits<double>::infinity(), 0};

    static State join(const State& a, const State& b) {
        const double max = maximum(a.max, b.max);
        const auto scaled = [=](const State& s) { return s.max == max ? s.sum : s.sum * std::exp(s.max - max); };
        return {max, scaled(a) + scaled(b)};
    }
    [[gnu::noinline]] static State of(const T* p, i64 n, i64) {
        const T max = fold<Larger>(p, n, [](const Vec<T>& v) { return v; });
        const Vec<T> shift = broadcast(shift_of(max));
        return {max, fold<Add>(p, n, [=](const Vec<T>& v) { return math::exp(v - shift); })};
    }
    [[gnu::noinline]] static void add_rows(State* states, const Tile<T>& t) {
        T max[TILE], shift[TILE], sum[TILE];
        fold_rows<Larger>(max, t, [](const Vec<T>& v, int) { return v; });
        for (int j = 0; j < TILE; ++j) shift[j] = shift_of(max[j]);
        fold_rows<Add>(sum, t, [&](const Vec<T>& v, int j) { return math::exp(v - load(shift + j)); });
        for (int j = 0; j < t.cols; ++j) states[j] = join(states[j], {max[j], sum[j]});
    }

  private:
    static T shift_of(T max) { return std::isinf(max) ? T(0) : max; }  // inf - inf is NaN
};

template <class T>
struct Moments {
    static constexpr bool ORDERED = false;
    struct State {
        double n, mean, squares;  // squares: sum of (x - mean)^2
    };
    static constexpr State NONE{0, 0, 0};

    /// Chan, Golub and LeVeque 1979. a.n comes before the second distance: 0 elements times an overflow would be NaN.
    static State join(const State& a, const State& b) {
        const double n = a.n + b.n, distance = b.mean - a.mean, share = b.n / n;
        return {n, a.mean + distance * share, a.squares + b.squares + distance * a.n * share * distance};
    }
    [[gnu::noinline]] static State of(const T* p, i64 n, i64) {
        const double count = static_cast<double>(n);
        const T center = static_cast<T>(fold<Add>(p, n, [](const Vec<T>& v) { return v; }) / count);
        const T first = fold<Add>(p, n, [=](const Vec<T>& v) { return v - center; });
        const T second = fold<Add>(p, n, [=](const Vec<T>& v) { return (v - center) * (v - center); });
        return about(center, first, second, count);
    }
    [[gnu::noinline]] static void add_rows(State* states, const Tile<T>& t) {
        T center[TILE], first[TILE], second[TILE];
        fold_rows<Add>(center, t, [](const Vec<T>& v, int) { return v; });
        for (int j = 0; j < TILE; ++j) center[j] /= static_cast<T>(t.rows);
        fold_rows<Add>(first, t, [&](const Vec<T>& v, int j) { return v - load(center + j); });
        fold_rows<Add>(second, t, [&](const Vec<T>& v, int j) {
            const Vec<T> distance = v - load(center + j);
            return distance * distance;
        });
        for (int j = 0; j < t.cols; ++j) states[j] = join(states[j], about(center[j], first[j], second[j], t.rows));
    }

  private:
    /// From the sums of (x - center) and (x - center)^2: center is the mean rounded to T, which the first sum mends.
    static State about(double center, double first, double second, double n) {
        const double squares = second - first * first / n;
        return {n, center + first / n, squares < 0 ? 0 : squares};
    }
};

/// The extreme element and where it is. Join is Larger or Smaller.
template <class T, class Join>
struct Extreme {
    static constexpr bool ORDERED = true;
    struct State {
        T value;
        i64 index;
    };
    static constexpr State NONE{0, -1};

    static State join(const State& a, const State& b) { return a.index < 0 || beats(b, a) ? b : a; }
    [[gnu::noinline]] static State of(const T* p, i64 n, i64 first) {
        const Mask<T> lane = lane_numbers<T>();
        Vec<T> best = broadcast(p[0]), best_odd = best;
        Mask<T> index{}, index_odd{};
        i64 j = 0;
        const auto take = [&](Vec<T>& best, Mask<T>& index, i64 j) {
            const Vec<T> v = load(p + j);
            const Mask<T> better = is_better(v, best);
            best = select(better, v, best);
            index = better ? lane + static_cast<Int>(j) : index;
        };
        for (; j + 2 * W<T> <= n; j += 2 * W<T>) {
            take(best, index, j);
            take(best_odd, index_odd, j + W<T>);
        }
        if (j + W<T> <= n) {
            take(best, index, j);
            j += W<T>;
        }
        State found{best[0], index[0]};
        const auto consider = [&](T value, i64 at) {
            if (beats({value, at}, found)) found = {value, at};
        };
        if (n >= W<T>)
            for (int i = 0; i < W<T>; ++i) {
                consider(best[i], index[i]);
                consider(best_odd[i], index_odd[i]);
            }
        for (; j < n; ++j) consider(p[j], j);
        return {found.value, first + found.index};
    }
    [[gnu::noinline]] static void add_rows(State* states, const Tile<T>& t) {
        T best[TILE];
        Int index[TILE] = {};
        each_column(t, [&](int j, auto lanes) { store(best + j, load_columns(t.row[0] + j, lanes)); });
        for (int i = 1; i < t.rows; ++i)
            each_column(t, [&, p = t.row[i]](int j, auto lanes) {
                const Vec<T> v = load_columns(p + j, lanes), before = load(best + j);
                const Mask<T> better = is_better(v, before);
                store(best + j, select(better, v, before));
                Mask<T> at;
                std::memcpy(&at, index + j, sizeof at);
                at = better ? Mask<T>{} + i : at;
                std::memcpy(index + j, &at, sizeof at);
            });
        for (int j = 0; j < t.cols; ++j) states[j] = join(states[j], {best[j], t.first + index[j]});
    }

  private:
    using Int = typename VectorTypes<T>::Int;

    /// Lanes where a later v replaces the best so far.
    static Mask<T> is_better(const Vec<T>& v, const Vec<T>& best) {
        const Mask<T> not_worse = std::is_same_v<Join, Larger> ? ~(v <= best) : ~(v >= best);  // true for a NaN
        return not_worse & (best == best);
    }
    static bool beats(const State& a, const State& b) {
        const bool a_nan = a.value != a.value, b_nan = b.value != b.value;
        if (a_nan != b_nan) return a_nan;
        if (!a_nan && a.value != b.value) return std::is_same_v<Join, Larger> ? a.value > b.value : a.value < b.value;
        return a.index < b.index;
    }
};

// ---- by rows --------------------------------------------------------------------------------------------------------

/// f(p, n, first) for the elements [begin, end) of the output whose first element is x[0]: they are handed over in
/// blocks of n, side by side from p[0] on, and `first` numbers that one.
template <class T, class F>
void each_block(const Plan<T>& plan, const T* x, i64 begin, i64 end, F&& f) {
    constexpr i64 SHORT = 64;  // below this, copying runs into one block beats a fold for each
    const Axis inner = plan.reduced.innermost();
    if (begin == end) return;
    if (inner.x == 1 && plan.reduced.count == 1) {
        for (i64 i = begin; i < end; i += BLOCK<T>) f(x + i, std::min(BLOCK<T>, end - i), i);
        return;
    }
    Position outer(plan.reduced.outer(), begin / inner.size);
    i64 at = begin % inner.size;  // along the innermost axis
    const auto advance = [&](i64 n) {
        at += n;
        if (at < inner.size) return;
        at = 0;
        outer.step();
    };
    if (inner.x == 1 && inner.size >= SHORT) {
        for (i64 i = begin; i < end;) {
            const i64 n = std::min({BLOCK<T>, end - i, inner.size - at});
            f(x + outer.x + at, n, i);
            i += n;
            advance(n);
        }
        return;
    }
    T block[BLOCK<T>];
    for (i64 i = begin; i < end; i += BLOCK<T>) {
        const i64 n = std::min(BLOCK<T>, end - i);
        for (i64 filled = 0; filled < n;) {
            const i64 run = std::min(n - filled, inner.size - at);
            const T* from = x + outer.x + at * inner.x;
            for (i64 k = 0; k < run; ++k) block[filled + k] = from[k * inner.x];
            filled += run;
            advance(run);
        }
        f(block, n, i);
    }
}

template <class Op, class T, class Emit>
void reduce_rows(const Plan<T>& plan, Emit&& emit) {
    using State = typename Op::State;
    const i64 segments = std::max<i64>(1, ceil_div(plan.count, SEGMENT));
    const auto piece = [&](const T* x, i64 segment) {
        State total = Op::NONE;
        each_block(plan, x, segment * SEGMENT, std::min(plan.count, (segment + 1) * SEGMENT),
                   [&](const T* p, i64 n, i64 first) { total = Op::join(total, Op::of(p, n, first)); });
        return total;
    };
    if (segments == 1) {
        const i64 outputs_per_chunk = CHUNK_ELEMENTS / (plan.count + 16);  // 16: what an output costs by itself
        parallel_for(plan.outputs, outputs_per_chunk, [&](i64 begin, i64 end) {
            Position output(plan.kept.all(), begin);
            for (i64 i = begin; i < end; ++i, output.step()) emit(plan.y0 + output.y, piece(plan.x + output.x, 0));
        });
        return;
    }
    Scratch<State> partial(checked_product(plan.outputs, segments));
    parallel_for(plan.outputs * segments, 1, [&](i64 begin, i64 end) {
        for (i64 i = begin; i < end; ++i)
            partial[i] = piece(plan.x + Position(plan.kept.all(), i / segments).x, i % segments);
    });
    Position output(plan.kept.all(), 0);
    for (i64 i = 0; i < plan.outputs; ++i, output.step()) {
        State total = partial[i * segments];
        for (i64 s = 1; s < segments; ++s) total = Op::join(total, partial[i * segments + s]);
        emit(plan.y0 + output.y, total);
    }
}

// ---- by columns -----------------------------------------------------------------------------------------------------

/// Joins to states[j] the rows [begin, end) of the column j; x points to column 0.
template <class Op, class T>
void add_tile(typename Op::State* states, const Plan<T>& plan, const T* x, i64 step, i64 cols, i64 begin, i64 end) {
    Position row(plan.reduced.all(), begin);
    const T* rows[TILE_ROWS];
    T gathered[TILE_ROWS * GATHERED_TILE];
    for (i64 first = begin; first < end; first += TILE_ROWS) {
        const int n = static_cast<int>(std::min(TILE_ROWS, end - first));
        for (int i = 0; i < n; ++i, row.step()) {
            rows[i] = x + row.x;
            if (step == 1) continue;
            T* to = gathered + i * GATHERED_TILE;
            for (i64 j = 0; j < cols; ++j) to[j] = rows[i][j * step];
            rows[i] = to;
        }
        Op::add_rows(states, Tile<T>{rows, n, static_cast<int>(cols), first});
    }
}

/// As add_tile where the rows lie side by side and are too short for vectors: `fold` rows are taken for one.
template <class Op, class T>
void add_narrow_tile(typename Op::State* states, const T* x, i64 cols, i64 fold, i64 begin, i64 end) {
    using State = typename Op::State;
    const i64 wide = cols * fold;
    State folded[TILE];
    std::fill(folded, folded + wide, Op::NONE);
    const T* rows[TILE_ROWS];
    const auto add = [&](i64 first, i64 count, i64 width) {
        for (i64 i = 0; i < count; ++i) rows[i] = x + first * cols + i * width;
        Op::add_rows(folded, Tile<T>{rows, static_cast<int>(count), static_cast<int>(width), first});
    };
    i64 i = begin;
    for (; i + fold <= end; i += fold * TILE_ROWS) add(i, std::min(TILE_ROWS, (end - i) / fold), wide);
    i = begin + (end - begin) / fold * fold;
    if (i < end) add(i, 1, (end - i) * cols);
    for (i64 f = 0; f < std::min(fold, end - begin); ++f)
        for (i64 j = 0; j < cols; ++j) states[j] = Op::join(states[j], folded[f * cols + j]);
}

template <class Op, class T, class Emit>
void reduce_columns(const Plan<T>& plan, Emit&& emit) {
    using State = typename Op::State;
    const Axis column = plan.kept.innermost();
    const i64 cols = column.size, tile = column.x == 1 ? TILE : GATHERED_TILE, tiles = ceil_div(cols, tile);
    const i64 outers = plan.outputs / cols;
    // Rows of up to 64 are short against a vector of 16: some are joined up to about 256.
    const bool adjacent = column.x == 1 && plan.reduced.count == 1 && plan.reduced.axis[0].x == cols;
    const i64 fold =
        !Op::ORDERED && adjacent && cols <= 64 && plan.count >= 8 ? std::min(TILE / 2 / cols, plan.count / 4) : 1;

    const i64 tile_cols = std::min(cols, tile);
    const i64 wanted = std::max(ceil_div(SEGMENT, tile_cols), ceil_div(plan.count, MAX_SEGMENTS));
    const i64 segment_rows = ceil_div(wanted, TILE_ROWS) * TILE_ROWS;
    const i64 segments = ceil_div(plan.count, segment_rows);
    Scratch<State> partial(segments > 1 ? checked_product(segments, plan.outputs) : 0);

    // Task: a tile of columns, one segment of their rows.
    const i64 task_elements = std::min(plan.count, segment_rows) * tile_cols + 16 * tile_cols;
    parallel_for(outers * segments * tiles, CHUNK_ELEMENTS / task_elements, [&](i64 begin, i64 end) {
        for (i64 task = begin; task < end; ++task) {
            const i64 j0 = task % tiles * tile, segment = task / tiles % segments, o = task / tiles / segments;
            const i64 width = std::min(tile, cols - j0);
            const i64 first = segment * segment_rows, last = std::min(plan.count, first + segment_rows);
            const Position outer(plan.kept.outer(), o);
            const T* x = plan.x + outer.x + j0 * column.x;
            State states[TILE];
            std::fill(states, states + width, Op::NONE);
            if (fold > 1)
                add_narrow_tile<Op>(states, x, cols, fold, first, last);
            else
                add_tile<Op>(states, plan, x, column.x, width, first, last);
            if (segments > 1)
                std::copy(states, states + width, partial + segment * plan.outputs + o * cols + j0);
            else
                for (i64 j = 0; j < width; ++j) emit(plan.y0 + outer.y + (j0 + j) * column.y, states[j]);
        }
    });
    if (segments == 1) return;
    parallel_for(plan.outputs, CHUNK_ELEMENTS / segments, [&](i64 begin, i64 end) {
        Position output(plan.kept.all(), begin);
        for (i64 i = begin; i < end; ++i, output.step()) {
            State total = partial[i];
            for (i64 s = 1; s < segments; ++s) total = Op::join(total, partial[s * plan.outputs + i]);
            emit(plan.y0 + output.y, total);
        }
    });
}

/// emit(position in y, State) once for every output, from any thread.
template <class Op, class T, class Emit>
void reduce(const Plan<T>& plan, Emit&& emit) {
    if (plan.outputs == 0) return;
    const Axis kept = plan.kept.innermost(), reduced = plan.reduced.innermost();
    const bool short_runs = reduced.size < SHORT_RUN && kept.size >= GATHERED_TILE;
    const bool columns = plan.count > 0 && plan.outputs > 1 && (closeness(kept) < closeness(reduced) || short_runs);
    if (columns)
        reduce_columns<Op>(plan, emit);
    else
        reduce_rows<Op>(plan, emit);
}

template <class T>
void divided_sum(T* y, const Plan<T>& plan, double divisor) {
    reduce<Fold<T, Add>>(plan, [=](i64 at, double total) { y[at] = static_cast<T>(total / divisor); });
}

void expect_elements(const char* op, i64 count) {
    if (count == 0) throw Error(std::string(op) + ": got no elements to reduce; expected at least one.");
}

template <class T, class Join>
void extreme_value(const char* op, T* y, const View<const T>& x, Axes axes) {
    const Plan<T> plan(x, axes);
    expect_elements(op, plan.count);
    reduce<Fold<T, Join>>(plan, [=](i64 at, double value) { y[at] = static_cast<T>(value); });
}
/// y may be null: not wanted.
template <class T, class Join>
void extreme_position(const char* op, T* y, i64* index, const View<const T>& x, int axis) {
    using Op = Extreme<T, Join>;
    const Plan<T> plan(x, Axes{1} << axis, Op::ORDERED);
    expect_elements(op, plan.count);
    reduce<Op>(plan, [=](i64 at, const typename Op::State& found) {
        if (y) y[at] = found.value;
        index[at] = found.index;
    });
}

}  // namespace

template <class T>
void sum(T* y, const View<const T>& x, Axes axes) {
    divided_sum(y, Plan<T>(x, axes), 1);
}
template <class T>
void mean(T* y, const View<const T>& x, Axes axes) {
    const Plan<T> plan(x, axes);
    divided_sum(y, plan, static_cast<double>(plan.count));
}

template <class T>
void prod(T* y, const View<const T>& x, Axes axes) {
    reduce<Fold<T, Multiply>>(Plan<T>(x, axes), [=](i64 at, double product) { y[at] = static_cast<T>(product); });
}

template <class T>
void amax(T* y, const View<const T>& x, Axes axes) {
    extreme_value<T, Larger>("amax", y, x, axes);
}
template <class T>
void amin(T* y, const View<const T>& x, Axes axes) {
    extreme_value<T, Smaller>("amin", y, x, axes);
}

template <class T>
void logsumexp(T* y, const View<const T>& x, Axes axes) {
    using Op = LogSumExp<T>;
    reduce<Op>(Plan<T>(x, axes),
               [=](i64 at, const typename Op::State& s) { y[at] = static_cast<T>(std::log(s.sum) + s.max); });
}

template <class T>
void var(T* y, const View<const T>& x, Axes axes, double correction) {
    const Plan<T> plan(x, axes);
    const double divisor = std::max(0.0, static_cast<double>(plan.count) - correction);
    using Op = Moments<T>;
    reduce<Op>(plan, [=](i64 at, const typename Op::State& s) { y[at] = static_cast<T>(s.squares / divisor); });
}

template <class T>
void argmax(i64* index, const View<const T>& x, int axis) {
    extreme_position<T, Larger>("argmax", nullptr, index, x, axis);
}
template <class T>
void argmin(i64* index, const View<const T>& x, int axis) {
    extreme_position<T, Smaller>("argmin", nullptr, index, x, axis);
}
template <class T>
void max(T* y, i64* index, const View<const T>& x, int axis) {
    extreme_position<T, Larger>("max", y, index, x, axis);
}
template <class T>
void min(T* y, i64* index, const View<const T>& x, int axis) {
    extreme_position<T, Smaller>("min", y, index, x, axis);
}

template <class T>
void cumsum(T* y, const T* x, i64 outer, i64 n, i64 inner) {
    const i64 tile = std::min(inner, TILE), tiles = ceil_div(inner, std::max<i64>(1, tile));
    parallel_for(outer * tiles, CHUNK_ELEMENTS / (n * tile + 16), [=](i64 begin, i64 end) {
        for (i64 task = begin; task < end; ++task) {
            const i64 j0 = task % tiles * tile, width = std::min(tile, inner - j0);
            const i64 start = task / tiles * n * inner + j0;
            if (inner == 1) {
                double total = 0;
                for (i64 i = start; i < start + n; ++i) y[i] = static_cast<T>(total += x[i]);
                continue;
            }
            double running[TILE] = {};
            for (i64 i = 0; i < n; ++i)
                for (i64 j = 0; j < width; ++j) {
                    const i64 at = start + i * inner + j;
                    running[j] += x[at];
                    y[at] = static_cast<T>(running[j]);
                }
        }
    });
}

#define INSTANTIATE(T)                                            \
    template void sum<T>(T*, const View<const T>&, Axes);         \
    template void mean<T>(T*, const View<const T>&, Axes);        \
    template void prod<T>(T*, const View<const T>&, Axes);        \
    template void amax<T>(T*, const View<const T>&, Axes);        \
    template void amin<T>(T*, const View<const T>&, Axes);        \
    template void logsumexp<T>(T*, const View<const T>&, Axes);   \
    template void var<T>(T*, const View<const T>&, Axes, double); \
    template void argmax<T>(i64*, const View<const T>&, int);     \
    template void argmin<T>(i64*, const View<const T>&, int);     \
    template void max<T>(T*, i64*, const View<const T>&, int);    \
    template void min<T>(T*, i64*, const View<const T>&, int);    \
    template void cumsum<T>(T*, const T*, i64, i64, i64);
INSTANTIATE(float)
INSTANTIATE(double)
#undef INSTANTIATE

}  // namespace glassgrad
