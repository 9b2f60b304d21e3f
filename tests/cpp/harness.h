// A test harness in 60 lines: the kernels are tested without Python, and without a library to install.
#pragma once

#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

namespace harness {

struct Test {
    const char* name;
    void (*body)();
};
inline std::vector<Test>& tests() {
    static std::vector<Test> all;
    return all;
}
struct Register {
    Register(const char* name, void (*body)()) { tests().push_back({name, body}); }
};

inline int failures_of_test = 0;
inline constexpr int SHOWN = 5;  // of each test: a wrong kernel is wrong a thousand times

inline void failed(const char* file, int line, const std::string& what) {
    if (failures_of_test++ < SHOWN) std::printf("%s:%d: %s\n", file, line, what.c_str());
}

inline void check_close(double a, double b, double tolerance, const char* text, const char* file, int line) {
    if (!(std::abs(a - b) <= tolerance * (1 + std::abs(b)))) {  // a NaN fails
        char message[256];
        std::snprintf(message, sizeof message, "%s: got %.17g; expected %.17g within %.3g", text, a, b, tolerance);
        failed(file, line, message);
    }
}

}  // namespace harness

#define TEST(name)                                                 \
    static void name();                                            \
    static const harness::Register registered_##name(#name, name); \
    static void name()
#define CHECK(condition)                                                   \
    do {                                                                   \
        if (!(condition)) harness::failed(__FILE__, __LINE__, #condition); \
    } while (false)
/// |a - b| <= tolerance (1 + |b|); NaN fails.
#define CHECK_CLOSE(a, b, tolerance) \
    harness::check_close(static_cast<double>(a), static_cast<double>(b), tolerance, #a, __FILE__, __LINE__)
