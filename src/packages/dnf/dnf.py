# Asks dnf's Python API (dnf.readthedocs.io, "DNF API Reference") what nosa wants to know; dnf's command line
# prints nothing that a program could read. Standard input: one JSON request. Standard output: JSON lines,
# the last of which is {"result": ...} or {"error": {"kind": ..., "text": ...}}.
import difflib
import hashlib
import json
import os
import sys

import dnf
import dnf.callback
import dnf.exceptions
import dnf.subject
import hawkey


class Refused(Exception):
    def __init__(self, kind, **more):
        super().__init__(kind)
        self.answer = {"kind": kind, **more}


def say(**line):
    print(json.dumps(line), flush=True)


def open_base(request, cacheonly):
    for name in ["persist", "log"]:
        os.makedirs(os.path.join(request["cachedir"], name), exist_ok=True)
    base = dnf.Base()
    conf = base.conf
    conf.installroot = request["installroot"]
    conf.cachedir = request["cachedir"]
    conf.persistdir = request["cachedir"] + "/persist"
    conf.logdir = request["cachedir"] + "/log"
    conf.reposdir = [request["reposdir"]]
    conf.varsdir = []
    conf.pluginpath = []
    conf.gpgcheck = True
    conf.best = True
    conf.strict = True
    conf.skip_if_unavailable = False
    conf.install_weak_deps = request.get("recommends", False)
    conf.metadata_expire = 0
    conf.keepcache = True
    conf.cacheonly = cacheonly
    conf.substitutions["releasever"] = request["releasever"]
    conf.substitutions["basearch"] = request["basearch"]
    conf.substitutions["arch"] = request["basearch"]
    conf.excludepkgs = []
    base.read_all_repos()
    chosen = {repo["id"]: repo for repo in request["repos"]}
    for repo in base.repos.values():
        if repo.id in chosen:
            repo.enable()
            repo.skip_if_unavailable = False
        else:
            repo.disable()
    for repo_id in chosen:
        if repo_id not in base.repos:
            raise Refused("repository", repo=repo_id, text="its definition cannot be read")
    try:
        base.fill_sack(load_system_repo=False)
    except dnf.exceptions.RepoError as error:
        repo = next((name for name in chosen if "'%s'" % name in str(error)), "")
        raise Refused("repository", repo=repo, text=str(error))
    return base, chosen


def describe(package):
    checksum = package.returnIdSum()
    if checksum is None or checksum[0] != "sha256":
        kind = checksum[0] if checksum else "no checksum"
        raise Refused("repository", repo=package.reponame, text="%s has %s, and nosa wants sha256" % (package, kind))
    source = package.source_name or package.name
    return {
        "name": package.name, "epoch": package.epoch, "version": package.version, "release": package.release,
        "arch": package.arch, "source": source, "repo": package.reponame, "location": package.relativepath,
        "size": package.downloadsize, "sha256": checksum[1],
    }


def snapshot(request):
    base, chosen = open_base(request, False)
    found = []
    for repo in sorted(base.repos.iter_enabled(), key=lambda repo: repo.id):
        primary = repo.get_metadata_path("primary")
        with open(os.path.join(os.path.dirname(primary), "repomd.xml"), "rb") as file:
            text = file.read()
        found.append({"id": repo.id, "digest": hashlib.sha256(text).hexdigest(), "repomd": text.decode()})
    return found


def restrict(base, chosen, request):
    """Repositories that give certain packages only, and packages that come from one repository only."""
    sack = base.sack
    locked = {lock["name"] for lock in request["locked"]}
    for repo_id, repo in chosen.items():
        all_of_it = sack.query().filterm(reponame=repo_id)
        if repo["only"] == "named":
            sack.add_excludes(all_of_it.difference(all_of_it.filter(name=repo["packages"])))
        elif repo["only"] == "locked" and request["locked"]:
            sack.add_excludes(all_of_it.difference(all_of_it.filter(name=sorted(locked))))
        if repo["packages"]:
            named = sack.query().filterm(name=repo["packages"])
            sack.add_excludes(named.difference(named.filter(reponame=repo_id)))


def hold(base, request):
    """Locked names resolve to what is locked; strict hides all others; local files beat both."""
    sack = base.sack
    local = []
    for path in request["local"]:
        try:
            local += base.add_remote_rpms([path], strict=True)
        except (dnf.exceptions.Error, OSError) as error:
            raise Refused("local", path=path, text=str(error).strip())
    names = {package.name for package in local}
    for name in names:
        mine = sack.query().filterm(name=name)
        sack.add_excludes(mine.difference(mine.filter(pkg=[p for p in local if p.name == name])))
    seen = set(names)
    for lock in request["locked"]:
        seen.add(lock["name"])
        if lock["name"] in names:
            continue
        mine = sack.query().filterm(name=lock["name"])
        match = [p for p in mine if evr(p) == lock["evr"] and lock.get("arch") in (None, p.arch)]
        if match:
            sack.add_excludes(mine.difference(sack.query().filterm(pkg=match)))
    if request["strict"]:
        everything = sack.query()
        sack.add_excludes(everything.difference(sack.query().filterm(name=sorted(seen))))
    return {package.name: package for package in local}


def evr(package):
    text = "%s-%s" % (package.version, package.release)
    return text if package.epoch == 0 else "%s:%s" % (package.epoch, text)


def mark(base, request):
    sack = base.sack
    unknown = []
    for spec in request["packages"]:
        try:
            base.install(spec, strict=True)
        except dnf.exceptions.MarkingError:
            subject = dnf.subject.Subject(spec)
            hidden = sack.query(hawkey.IGNORE_EXCLUDES)
            there = subject.get_best_query(sack, query=hidden)
            names = sorted({package.name for package in hidden})
            near = difflib.get_close_matches(spec, names, 1)
            unknown.append({"name": spec, "hidden": bool(there), "near": near[0] if near else None})
    if unknown:
        raise Refused("unknown", packages=unknown)


def resolve(request):
    base, chosen = open_base(request, True)
    sack = base.sack
    restrict(base, chosen, request)
    local = hold(base, request)
    if request["exclude"]:
        sack.add_excludes(sack.query().filterm(name__glob=request["exclude"]))
    mark(base, request)
    try:
        base.resolve()
    except dnf.exceptions.DepsolveError as error:
        raise Refused("conflict", text=str(error))
    answer = []
    for package in sorted(base.transaction.install_set):
        if package.name in local:
            path = package.localPkg()
            answer.append({
                "name": package.name, "epoch": package.epoch, "version": package.version,
                "release": package.release, "arch": package.arch, "source": package.source_name or package.name,
                "repo": "overrides", "location": path,
            })
        else:
            answer.append(describe(package))
    return answer


class Meter(dnf.callback.DownloadProgress):
    def start(self, total_files, total_size, total_drpms=0):
        self.done = {}

    def progress(self, payload, done):
        said = self.done.get(payload, 0)
        if done > said:
            say(progress=done - said)
            self.done[payload] = done

    def end(self, payload, status, msg):
        self.progress(payload, payload.download_size)


def download(request):
    base, chosen = open_base(request, True)
    base.conf.cacheonly = False
    packages, files = [], {}
    for wanted in request["wanted"]:
        found = [
            package for package in base.sack.query(hawkey.IGNORE_EXCLUDES).filterm(
                name=wanted["name"], arch=wanted["arch"], reponame=wanted["repo"])
            if evr(package) == wanted["evr"]
        ]
        if not found:
            raise Refused("gone", name=wanted["name"], evr=wanted["evr"], repo=wanted["repo"])
        packages.append(found[0])
    for repo in base.repos.iter_enabled():
        repo.pkgdir = request["downloads"]
    remote = [package for package in packages if not package._is_local_pkg()]
    try:
        base.download_packages(remote, Meter())
    except dnf.exceptions.DownloadError as error:
        raise Refused("download", text=str(error).strip())
    for package in packages:
        status, text = base.package_signature_check(package)
        if status == 1:
            try:
                base.package_import_key(package, fullaskcb=lambda *_a, **_k: True)
            except (dnf.exceptions.Error, ValueError) as error:
                raise Refused("signature", name=str(package), repo=package.reponame, text=str(error).strip())
            status, text = base.package_signature_check(package)
        if status != 0:
            raise Refused("signature", name=str(package), repo=package.reponame, text=text.strip())
    return [package.localPkg() for package in packages]


def main():
    request = json.load(sys.stdin)
    try:
        answer = {"snapshot": snapshot, "resolve": resolve, "download": download}[request["do"]](request)
        say(result=answer)
    except Refused as refused:
        say(error=refused.answer)
    except dnf.exceptions.Error as error:
        say(error={"kind": "dnf", "text": str(error).strip()})


main()
