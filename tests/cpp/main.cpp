// Runs every test, or those whose name contains the argument.
#include <cstring>
#include <exception>

#include "core/cpu_features.h"
#include "harness.h"

namespace {

bool cpu_runs_this() {
#if defined(__AVX512F__)
    return glassgrad::cpu_runs_avx512();
#elif defined(__AVX2__)
    return glassgrad::cpu_runs_avx2();
#else
    return true;
#endif
}

}  // namespace

int main(int argc, char** argv) {
    constexpr int SKIPPED = 77;
    if (!cpu_runs_this()) return SKIPPED;
    int passed = 0, failed = 0;
    for (const auto& test : harness::tests()) {
        if (argc > 1 && !std::strstr(test.name, argv[1])) continue;
        harness::failures_of_test = 0;
        try {
            test.body();
        } catch (const std::exception& e) {
            harness::failed(test.name, 0, std::string("exception: ") + e.what());
        }
        if (harness::failures_of_test) {
            std::printf("FAILED %s: %d checks\n", test.name, harness::failures_of_test);
            ++failed;
        } else {
            ++passed;
        }
    }
    std::printf("%d passed, %d failed\n", passed, failed);
    return failed || passed == 0;
}
