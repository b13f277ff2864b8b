"""The dashboard's page: files that are served as they are (router.api.page)."""
