# cmake -DCARGO=... -DMANIFEST=Cargo.toml -DTARGET_DIR=... -DOUT=... -P build_rust.cmake
# Builds the crate and puts its library and its bridge's header into OUT. Clones may share TARGET_DIR, where the
# compiled dependencies stay. Cargo takes the crate of another clone for this one (same name, and it looks at times, not
# contents), so our own crate is always built anew, and the lock covers the copying too.
file(MAKE_DIRECTORY ${TARGET_DIR} ${OUT})
file(LOCK ${TARGET_DIR}/causeway-build.lock GUARD PROCESS)
execute_process(COMMAND ${CARGO} clean --release --locked --quiet --package causeway_text --manifest-path ${MANIFEST}
                        --target-dir ${TARGET_DIR})
# The messages on standard output say where the results are; progress and errors go to the terminal on standard error.
execute_process(
  COMMAND ${CARGO} build --release --locked --manifest-path ${MANIFEST} --target-dir ${TARGET_DIR}
          --message-format json-render-diagnostics
  OUTPUT_VARIABLE messages RESULT_VARIABLE failed)
if(failed)
  message(FATAL_ERROR "cargo failed (${failed}). Without a network, a filled cargo cache (CARGO_HOME) is needed.")
endif()
string(REGEX MATCH "\"([^\"]*/libcauseway_text\\.a)\"" found "${messages}")
set(library "${CMAKE_MATCH_1}")
string(REGEX MATCH "\"out_dir\":\"([^\"]*/causeway_text-[^\"]*)\"" found "${messages}")
set(header "${CMAKE_MATCH_1}/cxxbridge/include/causeway_text/src/lib.rs.h")
if(NOT EXISTS "${library}" OR NOT EXISTS "${header}")
  message(FATAL_ERROR "cargo built no library or no bridge header: '${library}', '${header}'")
endif()
file(COPY_FILE ${library} ${OUT}/libcauseway_text_rust.a ONLY_IF_DIFFERENT)
file(COPY_FILE ${header} ${OUT}/causeway_text_bridge.h ONLY_IF_DIFFERENT)
