"""The i386 socket ABI as data: numbers, words, layouts, the call record, decoding. Pure: nothing here does I/O."""
