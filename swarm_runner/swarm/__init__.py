"""The only importer of docker: services, secrets, images and tasks of one Swarm."""
