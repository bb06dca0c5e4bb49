causeway_library(causeway_engine SOURCES place_model.cc engine.cc request.cc
  DEPS causeway_base causeway_checkpoint causeway_architecture causeway_plan causeway_text causeway_schedule causeway_execution spdlog::spdlog)
