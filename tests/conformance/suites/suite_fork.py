"""CPython's own tests of multiprocessing, with processes started by fork."""

from test._test_multiprocessing import install_tests_in_module_dict

install_tests_in_module_dict(globals(), "fork")
