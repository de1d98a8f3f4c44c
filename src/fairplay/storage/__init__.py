"""What lies on disk and whether it is finished: manifests, run directories, tables, shards, settings files. Floor 2."""
