// What libFuzzer calls. Its own main() is linked in.
#include <cstdlib>

#include "fuzz.h"

extern "C" const char* __asan_default_options() {
    // Fresh memory is NaN, all of it.
    return "malloc_fill_byte=255:max_malloc_fill_size=1073741824:detect_leaks=0";
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t n) {
    fuzz::Input in(bytes, n);
    target(in);
    return 0;
}
