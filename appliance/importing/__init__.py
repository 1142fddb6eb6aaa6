"""Files from outside become models: read without native code, tried in a process that is thrown away, stored.

headers    what the files say of themselves, and whether they belong together; pure
licences   who has to accept what; pure
papers     a digest and a signature that came with the files
trial      the process in which llama.cpp and the template run for the first time
store      copies into the home, all or nothing
importing  the order of these
"""
