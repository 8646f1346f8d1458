// Precompiled headers need a source file to go with.
