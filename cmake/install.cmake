# make install and find_package(tandem).
