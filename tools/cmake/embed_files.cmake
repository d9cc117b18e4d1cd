# Writes OUTPUT, a C++ file that holds the bytes of FILES (separated by '|') as
# `deltaserve::SYMBOL()`, a list of (name, bytes):  cmake -DFILES=a|b -DOUTPUT=x.cc -DSYMBOL=F -P ...
string(REPLACE "|" ";" FILES "${FILES}")
set(text "#include \"tools/embedded_files.h\"\n\nnamespace deltaserve {\nnamespace {\n")
set(list "")
set(index 0)
foreach(file ${FILES})
  get_filename_component(name ${file} NAME)
  file(READ ${file} hex HEX)
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
  string(APPEND text "const unsigned char kFile${index}[] = {${bytes}};\n")
  string(APPEND list "      {\"${name}\", std::string(reinterpret_cast<const char*>(kFile${index}), "
         "sizeof(kFile${index}))},\n")
  math(EXPR index "${index} + 1")
endforeach()
string(APPEND text "}  // namespace\n\nstd::vector<EmbeddedFile> ${SYMBOL}() {\n  return {\n${list}  };\n}\n\n"
       "}  // namespace deltaserve\n")
file(WRITE ${OUTPUT} "${text}")
