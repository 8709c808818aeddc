# How llama.cpp is built, and what of it: the libraries that llama-cpp-python loads for text, 74 of
# 178 objects.
# Read by CMake before llama-cpp-python's own CMakeLists.txt (CMAKE_PROJECT_llama_cpp_INCLUDE);
# ordinary variables go before the cache entries that it forces.  -DLLAVA_BUILD=ON builds it all.
if(NOT LLAVA_BUILD)
  set(LLAVA_BUILD OFF)         # images and sound (libmtmd), which no code here asks for
  set(LLAMA_BUILD_COMMON OFF)  # what llama.cpp's own programs share; none of them is built
endif()
# Its products for AMX crash at the first token of 8- or 4-bit weights, on Xeons that have it: the
# compiler drops the tile configuration, whose reader says that it reads 8 bytes of it (GCC 12's
# amxtileintrin.h), and threads lack the kernel's leave (github.com/ggml-org/llama.cpp/pull/26954).
# The file blamed for it was sound.  Undefined here, since -march=native comes later and wins.
add_compile_options($<$<COMPILE_LANGUAGE:C,CXX>:-U__AMX_INT8__>)
