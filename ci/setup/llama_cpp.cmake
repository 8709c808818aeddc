# What of llama.cpp is built: the libraries that llama-cpp-python loads for text, 74 of 178 objects.
# Read by CMake before llama-cpp-python's own CMakeLists.txt (CMAKE_PROJECT_llama_cpp_INCLUDE);
# ordinary variables go before the cache entries that it forces.  -DLLAVA_BUILD=ON builds it all.
if(NOT LLAVA_BUILD)
  set(LLAVA_BUILD OFF)         # images and sound (libmtmd), which no code here asks for
  set(LLAMA_BUILD_COMMON OFF)  # what llama.cpp's own programs share; none of them is built
endif()
