complete --keep-order --exclusive --command choreoctl --arguments "(COMPLETE=fish choreoctl -- (commandline --current-process --tokenize --cut-at-cursor) (commandline --current-token))"
