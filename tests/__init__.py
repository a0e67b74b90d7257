"""The behaviours, a folder for each part of the ABI; instruments/ has the tests of the suite itself."""
