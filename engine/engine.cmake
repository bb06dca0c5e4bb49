causeway_library(causeway_engine
  SOURCES place_model.cc engine.cc engine_loop.cc front.cc router.cc waiting_requests.cc request.cc constraint.cc
          layer_outputs_budget.cc text_files.cc
  DEPS causeway_base causeway_checkpoint causeway_architecture causeway_plan causeway_text causeway_schedule causeway_execution spdlog::spdlog)
causeway_test(request_test SOURCES request_test.cc DEPS causeway_engine)
causeway_test(place_model_test SOURCES place_model_test.cc DEPS causeway_engine causeway_test_checkpoint)
causeway_test(text_files_test SOURCES text_files_test.cc DEPS causeway_engine)
causeway_test(front_test SOURCES front_test.cc router_test.cc DEPS causeway_engine SANITIZED)
